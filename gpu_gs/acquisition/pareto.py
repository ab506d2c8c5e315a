"""Pareto fronts, and the space above them cut into boxes, for many draws at once.

Notation: all of m objectives are maximized, r is the reference point. A point z dominates the box {y: r <= y < z}. What no
point of a draw dominates, from r up, is cut into disjoint boxes {y: l <= y < u}, its cells; u may be infinite. A draw
with fewer cells than another is padded with empty ones, l = u on some objective.

With two objectives a front of F points sorted by the first one leaves F + 1 cells, each unbounded above in the second.
With more, points are put in one after the other, those with the largest last objective first: a cell that a new point
cuts keeps its pieces beside the point, and the pieces below it start from the point's first objective instead. Every cell
is unbounded in the first objective. Pieces that make a box together become one, which leaves at most 2 F + 1 cells with
three objectives, as many as the algorithms in Yang et al. 2019, "Efficient computation of expected hypervolume improvement
using box decomposition algorithms", section 4.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

SCREEN = 64
"""Points of the largest sums that every point is compared with before all pairs are."""

PAIRS = 2**25
"""Pairs of points that are compared at once: some 100 MB."""


def nondominated(Y: Tensor) -> Tensor:
    """Which points no other point of their draw dominates; of equal ones the first. NaN: no. shape: (S, n, m) -> (S, n)"""
    known = ~Y.isnan().any(-1)
    Y = torch.where(known.unsqueeze(-1), Y, -torch.inf)
    return (_nondominated_2 if Y.shape[-1] == 2 else _nondominated)(Y) & known


def _nondominated_2(Y: Tensor) -> Tensor:
    """The same for two objectives: the second one must exceed those of all points with a larger first one."""
    order = torch.argsort(Y[..., 1], dim=-1, descending=True, stable=True)
    order = order.gather(-1, torch.argsort(Y[..., 0].gather(-1, order), dim=-1, descending=True, stable=True))
    second = Y[..., 1].gather(-1, order)
    first = torch.ones_like(order, dtype=torch.bool)
    first[..., 1:] = second[..., 1:] > second.cummax(-1).values[..., :-1]
    return torch.zeros_like(first).scatter_(-1, order, first)


def _nondominated(Y: Tensor) -> Tensor:
    """The same for any number of objectives: by pairs, among those that the points of the largest sums leave."""
    S, n, m = Y.shape
    order = torch.argsort(Y.sum(-1), dim=-1, descending=True, stable=True)
    if n > 2 * SCREEN:
        lead = Y.gather(-2, order[:, :SCREEN].unsqueeze(-1).expand(-1, -1, m))
        below = _compared(torch.gt, lead, Y).any(-2).gather(-1, order)  # strictly in every objective
        order = order.gather(-1, torch.argsort(below.byte(), dim=-1, stable=True))
        order = order[:, : int((~below).sum(-1).max())]  # a host synchronization
        # Points that were screened out and still are among these are dominated by one that is there too.
    Y = Y.gather(-2, order.unsqueeze(-1).expand(-1, -1, m))
    earlier = torch.ones(Y.shape[-2], Y.shape[-2], dtype=torch.bool, device=Y.device).triu_(1)
    kept = []
    for some in torch.split(Y, max(1, PAIRS // max(1, Y.shape[-2] ** 2))):
        at_least = _compared(torch.ge, some, some)
        kept.append(~(at_least & (~at_least.mT | earlier)).any(-2))
    return torch.zeros(S, n, dtype=torch.bool, device=Y.device).scatter_(-1, order, torch.cat(kept))


def _compared(relation: Any, A: Tensor, B: Tensor) -> Tensor:
    """Whether the relation holds in all objectives. shape: (S, a, m), (S, b, m) -> (S, a, b)"""
    holds = relation(A[..., None, 0], B[..., None, :, 0])
    for k in range(1, A.shape[-1]):
        holds &= relation(A[..., None, k], B[..., None, :, k])
    return holds


def fronts(Y: Tensor, reference: Tensor, valid: Tensor | None = None) -> Tensor:
    """The Pareto front of each draw above the reference point, in an order that does not depend on that of the points.

    Args:
        Y: The points of each draw; those with NaN don't count. shape: (S, n, m)
        reference: Points that don't exceed it in every objective don't count. shape: (m,)
        valid: Which points count. shape: (S, n)

    Returns:
        The fronts, by descending last objective; a shorter one is filled with the reference point. shape: (S, F, m)
    """
    counted = torch.gt(Y, reference).all(-1)
    if valid is not None:
        counted = counted & valid
    Y = torch.where(counted.unsqueeze(-1), Y, reference)
    counted &= nondominated(Y)
    size = int(counted.sum(-1).amax()) if counted.numel() else 0  # a host synchronization
    Y = torch.where(counted.unsqueeze(-1), Y, reference)
    for k in range(Y.shape[-1]):  # the last key first
        order = torch.argsort(Y[..., k], dim=-1, descending=True, stable=True)
        Y = Y.gather(-2, order.unsqueeze(-1).expand_as(Y))
    return Y[:, :size]


def cells(Y: Tensor, reference: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The cells that the points of each draw leave above the reference point. Arguments as those of ``fronts``.

    Returns:
        Lower and upper bounds. shape: (S, K, m) both
    """
    return cells_above(fronts(Y, reference, valid), reference)


def cells_above(front: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """The same for what ``fronts`` returned. shape: (S, F, m), (m,) -> (S, K, m) both"""
    if front.shape[-1] == 2:
        return _staircase(front, reference)
    # Many small operations one after the other, which cost least in NumPy, wherever the front lies.
    points, r = front.detach().cpu().numpy(), reference.detach().cpu().numpy()
    S, F, _ = points.shape
    boxes = _Boxes(np.tile(r, (S, 1)), np.full_like(points, np.inf, shape=(S, len(r))), np.arange(S))
    done = []
    for i in range(F):
        boxes = boxes.without(points[boxes.draw, i])
        over = boxes.lower[:, -1] > r[-1]  # no later point reaches up there
        done.append(boxes.where(over))
        boxes = boxes.where(~over)
    boxes = _Boxes.joined([*done, boxes])
    for k in range(1, len(r) - 1):  # a fifth fewer with four objectives
        boxes = boxes.merged(k)
    return boxes.padded(S, like=front)


def extended(lower: Tensor, upper: Tensor, Y: Tensor) -> tuple[Tensor, Tensor]:
    """Cells after b more points in each draw.

    With more than two objectives they are somewhat more than if all points were cut anew, which takes far longer.

    Args:
        lower: Lower bounds, as from ``cells`` or from here; those of one draw serve all. shape: (S, K, m) or (1, K, m)
        upper: Upper bounds. shape: as ``lower``
        Y: The points; one that is dominated, or not above the reference point, changes nothing. shape: (S, b, m)
    """
    S, b, m = Y.shape
    lower, upper = lower.expand(S, -1, -1), upper.expand(S, -1, -1)
    if m == 2:
        reference = torch.stack([lower[:, 0, 0], lower[:, -1, 1]], -1).unsqueeze(1)  # shape: (S, 1, 2)
        corners = torch.stack([upper[:, :-1, 0], lower[:, :-1, 1]], -1)
        return _staircase(fronts(torch.cat([corners, Y], 1), reference), reference.squeeze(1))
    real = (lower < upper).all(-1).reshape(-1).cpu().numpy()
    draw = np.repeat(np.arange(S), lower.shape[1])[real]
    low, up = (bound.detach().reshape(-1, m).cpu().numpy()[real] for bound in (lower, upper))
    boxes, points = _Boxes(low, up, draw), Y.detach().cpu().numpy()
    for j in range(b):
        boxes = boxes.without(points[boxes.draw, j])
    return boxes.padded(S, like=lower)


def hypervolume(Y: Tensor, reference: Tensor, valid: Tensor | None = None) -> Tensor:
    """The volume between the reference point and the front of each draw. Arguments as those of ``fronts``. shape: (S,)"""
    front = fronts(Y, reference, valid)
    if front.shape[1] == 0:
        return Y.new_zeros(len(Y))
    ideal = front.amax(1, keepdim=True)
    lower, upper = cells_above(front, reference)
    left = (torch.minimum(upper, ideal) - torch.minimum(lower, ideal)).prod(-1).sum(-1)
    return (ideal.squeeze(1) - reference).prod(-1) - left


class Partitions:
    """``cells`` that are not cut again while the fronts and the reference point stay exactly the same.

    A front that gained a point is cut anew, not extended: the cells, and with them every bit of what is computed from
    them, then depend on the data alone and not on what this object saw before.
    """

    def __init__(self) -> None:
        self.front: Tensor | None = None
        self.reference: Tensor | None = None
        self.kept: tuple[Tensor, Tensor] | None = None

    def cells(self, Y: Tensor, reference: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As the function ``cells``."""
        front = fronts(Y, reference, valid)
        if self.kept is None or not (_same(self.front, front) and _same(self.reference, reference)):
            self.front, self.reference = front.clone(), reference.clone()
            self.kept = cells_above(front, reference)
        return self.kept


def _same(one: Tensor | None, other: Tensor) -> bool:
    return (
        one is not None and one.dtype == other.dtype and one.device == other.device and torch.equal(one, other)
    )  # a host synchronization


def _staircase(front: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Cells of two objectives, by ascending first one. shape: (S, F, 2), (2,) or (S, 2) -> (S, F + 1, 2) both

    The second lower bounds fall from cell to cell. Empty cells come first, as high as the highest point.
    """
    S = len(front)
    r = reference.expand(S, 2)
    filler = (front <= r.unsqueeze(1)).any(-1)
    x = torch.where(filler, r[:, :1], front[..., 0])
    y = torch.where(filler, front[:, :1, 1], front[..., 1])
    order = torch.argsort(x, dim=-1, stable=True)
    x, y = x.gather(-1, order), y.gather(-1, order)
    x = torch.cat([r[:, :1], x, torch.full_like(r[:, :1], torch.inf)], -1)
    lower = torch.stack([x[:, :-1], torch.cat([y, r[:, 1:]], -1)], -1)
    return lower, torch.stack([x[:, 1:], torch.full_like(x[:, 1:], torch.inf)], -1)


class _Boxes:
    """Boxes of several draws in one list. shape: (T, m), (T, m), (T,)"""

    def __init__(self, lower: Any, upper: Any, draw: Any) -> None:
        self.lower, self.upper, self.draw = lower, upper, draw

    def where(self, chosen: Any) -> "_Boxes":
        return _Boxes(self.lower[chosen], self.upper[chosen], self.draw[chosen])

    @staticmethod
    def joined(parts: "list[_Boxes]") -> "_Boxes":
        return _Boxes(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("lower", "upper", "draw")))

    def without(self, z: Any) -> "_Boxes":
        """What is left when the point z of its draw dominates a part of each box. shape: (T, m)"""
        hit = (self.lower < z).all(1)
        if not hit.any():
            return self
        m = z.shape[1]
        below, z = self.where(hit), z[hit]
        parts = [self.where(~hit)]
        for k in range(m - 1, 0, -1):
            beside = below.upper[:, k] > z[:, k]
            piece = below.where(beside)
            piece.lower[:, k] = z[beside, k]
            below.upper[:, k] = np.minimum(below.upper[:, k], z[:, k])
            parts.append(piece)
        below.lower[:, 0] = z[:, 0]
        for k in range(1, m - 1):
            below = below.merged(k)
        return _Boxes.joined([*parts, below])

    def merged(self, axis: int) -> "_Boxes":
        """The same boxes, those that adjoin along an axis and are alike in all else made one."""
        others = [k for k in range(self.lower.shape[1]) if k != axis]
        keys = np.concatenate([self.lower[:, others], self.upper[:, others]], 1)
        order = np.lexsort((self.lower[:, axis], *keys.T, self.draw))
        boxes, keys = self.where(order), keys[order]
        head = np.ones(len(order) + 1, dtype=bool)
        head[1:-1] = (
            (boxes.draw[1:] != boxes.draw[:-1])
            | (keys[1:] != keys[:-1]).any(1)
            | (boxes.lower[1:, axis] != boxes.upper[:-1, axis])
        )
        ends = boxes.upper[head[1:], axis]
        boxes = boxes.where(head[:-1])
        boxes.upper[:, axis] = ends
        return boxes

    def padded(self, S: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """shape: (S, K, m) both"""
        order = np.argsort(self.draw, kind="stable")
        boxes = self.where(order)
        counts = np.bincount(boxes.draw, minlength=S)
        place = np.arange(len(order)) - (np.cumsum(counts) - counts)[boxes.draw]
        lower = np.zeros((S, counts.max(initial=0), self.lower.shape[1]), dtype=self.lower.dtype)
        upper = lower.copy()
        lower[boxes.draw, place], upper[boxes.draw, place] = boxes.lower, boxes.upper
        return torch.from_numpy(lower).to(like), torch.from_numpy(upper).to(like)
