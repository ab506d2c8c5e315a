"""The best observed point under outcome constraints, with the probability of feasibility in closed form.

Ax's ``best_in_sample_point`` estimates that probability by 10,000 samples a point, in a loop over the points: most of the
time of ``Client.get_best_parameterization``. Where each constraint bounds one outcome and outcomes are independent given
the data, it is a product: with f_j ~ N(m_j, s_j^2) and l_j <= f_j <= u_j,
    P = prod_j [Phi((u_j - m_j) / s_j) - Phi((l_j - m_j) / s_j)].
"""

import torch
from ax.core.search_space import SearchSpaceDigest
from ax.generators.torch.botorch_modular.surrogate import Surrogate
from ax.generators.torch_base import TorchOptConfig
from ax.generators.utils import filter_constraints_and_fixed_features, get_observed
from torch import Tensor


def outcome_bounds(A: Tensor, b: Tensor) -> tuple[Tensor, Tensor] | None:
    """Constraints A f <= b as bounds of each outcome; None if one of them involves several. shape: (k, m), (k, 1) -> (m,)

    Returns:
        Lower and upper bounds, infinite where there are none.
    """
    if bool(((A != 0).sum(-1) != 1).any()):
        return None
    lower, upper = torch.full_like(A[0], -torch.inf), torch.full_like(A[0], torch.inf)
    for row, limit in zip(A, b.reshape(-1), strict=True):
        (outcome,) = row.nonzero().reshape(-1)
        bound = limit / row[outcome]
        if row[outcome] > 0:
            upper[outcome] = torch.minimum(upper[outcome], bound)
        else:
            lower[outcome] = torch.maximum(lower[outcome], bound)
    return lower, upper


def probability_of_feasibility(mean: Tensor, covariance: Tensor, lower: Tensor, upper: Tensor) -> Tensor | None:
    """P for each point; None if outcomes are correlated. shape: (n, m), (n, m, m), (m,), (m,) -> (n,)"""
    variance = covariance.diagonal(dim1=-2, dim2=-1)
    if not torch.equal(covariance, torch.diag_embed(variance)):
        return None
    sigma = variance.clamp_min(0).sqrt().clamp_min(1e-12)
    within = torch.special.ndtr((upper - mean) / sigma) - torch.special.ndtr((lower - mean) / sigma)
    return within.clamp_min(0).prod(-1)


def best_observed_point(
    surrogate: Surrogate, search_space_digest: SearchSpaceDigest, torch_opt_config: TorchOptConfig
) -> tuple[Tensor, float] | None:
    """What ``Surrogate.best_in_sample_point`` returns, or None where P has no closed form.

    Of the observed points in the search space, the one with the largest (objective - smallest objective) P.
    """
    constraints = torch_opt_config.outcome_constraints
    if torch_opt_config.is_moo or constraints is None:
        return None
    if (bounds := outcome_bounds(*constraints)) is None:
        return None
    X = filter_constraints_and_fixed_features(
        X=get_observed(
            Xs=surrogate.Xs, objective_weights=torch_opt_config.objective_weights, outcome_constraints=constraints
        ),
        bounds=search_space_digest.bounds,
        linear_constraints=torch_opt_config.linear_constraints,
        fixed_features=torch_opt_config.fixed_features,
    )
    if len(X) == 0:
        return None
    mean, covariance = surrogate.predict(X)
    feasible = probability_of_feasibility(mean, covariance, *(bound.to(mean) for bound in bounds))
    if feasible is None:
        return None
    objective = mean @ torch_opt_config.objective_weights.sum(0).to(mean)
    utility = (objective - objective.min()) * feasible
    best = int(utility.argmax())
    return X[best].to(dtype=surrogate.dtype, device=torch.device("cpu")), float(utility[best])
