"""``maximize_acquisition``: our optimizer for anyone who has a BoTorch acquisition function."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from botorch.acquisition import AcquisitionFunction
from torch import Tensor

from gpu_gs.acquisition.autograd import AutogradAcquisition
from gpu_gs.acquisition.pool import Pool
from gpu_gs.acquisition.recognize import closed_form, reasons_against_closed_form
from gpu_gs.optimize.candidates import is_enumerated, optimize_acquisition, raw_samples_of
from gpu_gs.optimize.polytope import BotorchConstraint
from gpu_gs.rng import derive_seed


def maximize_acquisition(
    acqf: AcquisitionFunction,
    bounds: Tensor,
    q: int = 1,
    *,
    raw_samples: int = 1024,
    restarts: int = 16,
    iterations: int = 80,
    seed: int = 0,
    fixed_features: Mapping[int, float] | None = None,
    discrete: Mapping[int, Sequence[float] | Tensor] | None = None,
    starts: Tensor | None = None,
    anchors: Tensor | None = None,
    post_process: Callable[[Tensor], Tensor] | None = None,
    memory_mb: int = 512,
    bytes_per_point: int = 32_000,
    inequality_constraints: Sequence[BotorchConstraint] | None = None,
    equality_constraints: Sequence[BotorchConstraint] | None = None,
) -> tuple[Tensor, Tensor]:
    """Maximizes a BoTorch acquisition function over a box, as ``botorch.optim.optimize_acqf`` does, in few calls.

    Linear constraints on a candidate are taken as ``optimize_acqf`` takes them; those between candidates are not. All raw
    samples are scored in as few calls as memory allows, and all restarts advance in one batch. BoTorch's
    ``LogExpectedImprovement`` and ``UpperConfidenceBound`` of a one-output ``SingleTaskGP`` are evaluated in closed form,
    everything else by autograd. The result is a function of the arguments, ``seed`` among them; no global generator is
    used (but a sampler of the acquisition function may be random by itself).

    Args:
        acqf: Takes (b x 1 x d), or (b x 1 x d) with its own pending points, and returns (b).
        bounds: Lower and upper bounds; the result has their device and dtype. shape: (2, d)
        q: Candidates, chosen one after the other, each pending for those after it; more than one needs an acquisition
            function with ``set_X_pending``, whose pending points are put back in the end.
        raw_samples: Random points scored first.
        restarts: Points refined.
        iterations: Quasi-Newton iterations of a restart at the most.
        seed: Of all random draws.
        fixed_features: Values of fixed coordinates, by index.
        discrete: Allowed values of discrete coordinates, by index.
        starts: Starting points to be used in the place of raw samples and restarts. shape: (b, d)
        anchors: Good points, around which some of the raw samples are drawn. shape: (k, d)
        post_process: Applied to the refined points before the best is chosen. shape: (b, d) -> (b, d)
        memory_mb: Memory for scoring raw samples.
        bytes_per_point: Memory that scoring one point takes.
        inequality_constraints: Indices, coefficients and right-hand side of each ``sum(coefficients * x[indices]) >=
            rhs``. Candidates violate none by more than 1e-9, with coordinates in units of their ranges and coefficients
            of unit length.
        equality_constraints: The same of each ``sum(coefficients * x[indices]) = rhs``.

    Returns:
        Candidates (q x d) and the value that each had when it was chosen (q).

    Raises:
        botorch.exceptions.errors.UnsupportedError: More than one candidate, and ``acqf`` takes no pending points; or a
            constraint between candidates.
        botorch.exceptions.errors.InfeasibilityError: No point satisfies the constraints.
    """
    lower, upper = bounds
    allowed = {index: torch.as_tensor(values).to(bounds) for index, values in (discrete or {}).items()}
    fixed = dict(fixed_features or {})
    allowed = {index: values for index, values in allowed.items() if index not in fixed}
    within: Any = {"inequality_constraints": inequality_constraints, "equality_constraints": equality_constraints}
    pending = getattr(acqf, "X_pending", None)
    candidates: list[Tensor] = []
    values: list[Tensor] = []
    try:
        for place in range(q):
            if candidates:
                chosen = torch.stack(candidates)
                acqf.set_X_pending(chosen if pending is None else torch.cat([pending.to(chosen), chosen]))
            own_seed = derive_seed(seed, 0, place, 0)
            function: Any
            scored = None
            if reasons_against_closed_form(acqf):
                function = AutogradAcquisition(acqf)
            else:
                function = closed_form(acqf)
                bytes_per_point = 32 * len(function.state.Z)
                fits = raw_samples * bytes_per_point <= memory_mb * 2**20
                if starts is None and fits and not is_enumerated(lower, upper, discrete=allowed, fixed=fixed):
                    raw = raw_samples_of(
                        lower,
                        upper,
                        count=raw_samples,
                        seed=own_seed,
                        discrete=allowed,
                        fixed=fixed,
                        anchors=anchors,
                        **within,
                    )
                    pool = Pool.of(function, raw)
                    scored = pool.X, function.score(pool.mean, pool.variance)
            result = optimize_acquisition(
                function,
                lower,
                upper,
                raw_samples=raw_samples,
                restarts=restarts,
                iterations=iterations,
                seed=own_seed,
                memory_mb=memory_mb,
                bytes_per_point=bytes_per_point,
                discrete=allowed or None,
                fixed=fixed or None,
                anchors=anchors,
                post_process=post_process,
                scored=scored,
                starts=starts,
                **within,
            )
            candidates.append(result.x)
            values.append(torch.as_tensor(result.value).to(bounds))
    finally:
        if len(candidates) and q > 1:
            acqf.set_X_pending(pending)
    return torch.stack(candidates), torch.stack(values)


__all__ = ["maximize_acquisition"]
