"""Objectives and outcome constraints as linear forms of the outcomes, and which observations they share.

Ax hands over objective weights (o x m) and constraints A f <= b (k x m, k x 1). Constraints on the same combination of
outcomes become one form with two bounds. Where no two forms have an outcome in common, they are independent given the
data, and expectations of products are products of expectations.
"""

import math
from dataclasses import dataclass

import torch
from ax.generators.torch_base import TorchOptConfig
from torch import Tensor

LARGEST_CLOSED = 4
"""Objectives up to which the hypervolume improvement is used, as in stock Ax; above, ParEGO."""


@dataclass(frozen=True)
class Forms:
    """Linear forms of outcomes, the objectives first.

    Attributes:
        outcomes: Indices of the outcomes that take part.
        matrix: The forms of these outcomes, objectives to be maximized. shape: (p, len(outcomes))
        objectives: How many of the forms are objectives.
        lower: Lower bounds of the others. shape: (p - objectives,)
        upper: Upper bounds of the others. shape: (p - objectives,)
    """

    outcomes: tuple[int, ...]
    matrix: Tensor
    objectives: int
    lower: Tensor
    upper: Tensor


def forms_of(config: TorchOptConfig) -> Forms | list[str]:
    """The forms of an optimization, or why there are none that are independent."""
    weights = config.objective_weights
    weights = weights.reshape(-1, weights.shape[-1])
    rows = weights.tolist()
    if not rows or not all(any(row) for row in rows):
        return ["acquisition: an objective without a weight"]
    if len(rows) > LARGEST_CLOSED:
        return [f"acquisition: {len(rows)} objectives (ParEGO)"]
    bounds: dict[tuple[float, ...], list[float]] = {}
    if config.outcome_constraints is not None:
        A, b = config.outcome_constraints
        for coefficients, limit in zip(A.tolist(), b.reshape(-1).tolist(), strict=True):
            scale = math.hypot(*coefficients)
            if scale == 0:
                return ["acquisition: an outcome constraint without an outcome"]
            scale = math.copysign(scale, next(a for a in coefficients if a))
            interval = bounds.setdefault(tuple(round(a / scale, 12) for a in coefficients), [-math.inf, math.inf])
            if scale > 0:
                interval[1] = min(interval[1], limit / scale)
            else:
                interval[0] = max(interval[0], limit / scale)
    forms = [*rows, *(list(direction) for direction in bounds)]
    uses = [sum(1 for form in forms if form[i]) for i in range(len(forms[0]))]
    if max(uses) > 1:
        return ["acquisition: two objectives or outcome constraints share an outcome"]
    outcomes = tuple(i for i, count in enumerate(uses) if count)
    intervals = torch.tensor(list(bounds.values()), dtype=torch.double).to(weights).reshape(-1, 2)
    return Forms(
        outcomes=outcomes,
        matrix=torch.tensor([[form[i] for i in outcomes] for form in forms], dtype=torch.double).to(weights),
        objectives=len(rows),
        lower=intervals[:, 0],
        upper=intervals[:, 1],
    )


def shared_rows(Xs: list[Tensor]) -> list[Tensor]:
    """For each outcome, the rows of the points that all outcomes have observed, in the order of the first outcome.

    shape: m of (n_j, d) -> m of (n,)
    """
    first = Xs[0]
    if all(X is first or torch.equal(X, first) for X in Xs[1:]):
        return [torch.arange(len(first), device=first.device)] * len(Xs)
    _, ids = torch.unique(torch.cat(Xs), dim=0, return_inverse=True)
    rows = []
    for own in torch.split(ids, [len(X) for X in Xs]):  # the first row of each point; len(own) where it has none
        row = torch.full((int(ids.max()) + 1,), len(own), device=ids.device)
        rows.append(row.scatter_reduce_(0, own, torch.arange(len(own), device=ids.device), "amin"))
    everywhere = torch.stack([row < len(X) for row, X in zip(rows, Xs, strict=True)]).all(0)
    order = rows[0][everywhere].argsort()
    return [row[everywhere][order] for row in rows]
