"""The closed form of one fitted model from candidate to candidate, while the points pending become more.

A call for k candidates comes here k times, each time with one more pending point. What is the same for all of them, the
scored raw samples above all, is kept for as long as the fitted model lives and extended by a row for each pending point.

It is a cache and nothing else. The seeds of what is kept derive from the ask's index less the number of pending points,
which is the same for all k asks, and the base samples of a pending point from its place among them; pending points are
added in their order, each full block of them at once and the rest one by one. So the same numbers come out, to the last
bit, whether the cache had something or not, in this process or another.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from botorch.models.model import Model
from torch import Tensor

from gpu_gs.acquisition.pool import ClosedForm, JointPool, Pool, pool_of
from gpu_gs.rng import derive_seed

BLOCK = 32
"""Pending points that are added at once where there are as many: hundreds of abandoned trials stay pending for ever."""


def seed_of_run(strategy_seed: int, index: int, pending: int, attempt: int) -> int:
    """The seed that all asks of a run of asks without new data in between share.

    Args:
        strategy_seed: The strategy's seed.
        index: Index of this ask.
        pending: How many points are pending.
        attempt: De-duplication attempt; another one draws anew.
    """
    first = index - pending  # negative if points are pending that were never asked for
    return derive_seed(strategy_seed, 2 * first if first >= 0 else -2 * first - 1, 2, attempt)


@dataclass(frozen=True)
class Sequence:
    """A closed form with some points pending.

    Attributes:
        seed: See ``seed_of_run``.
        pending: The points, in their order. shape: (p, d)
        function: The closed form given them.
        pool: Scored raw samples under it, once somebody asked for them.
        pool_key: What they depend on.
    """

    seed: int
    pending: Tensor
    function: ClosedForm
    pool: Pool | JointPool | None = None
    pool_key: Any = None

    def base_samples(self, place: int) -> Tensor | None:
        """For the pending point at a place; None if the function needs no draws. shape: ``function.sample_shape``"""
        shape = self.function.sample_shape
        if shape is None:
            return None
        generator = torch.Generator(device=self.pending.device)
        generator.manual_seed(derive_seed(self.seed, 1, place, 0))
        return torch.randn(shape, generator=generator, dtype=self.pending.dtype, device=self.pending.device)

    def given(self, X: Tensor) -> "Sequence":
        """With more points pending. shape: (b, d)"""
        p = len(self.pending)
        samples = [one for place in range(p, p + len(X)) if (one := self.base_samples(place)) is not None]
        e = torch.stack(samples) if samples else None
        function: Any = self.function.given(X, e)  # type: ignore[arg-type]  # None where it has no sample_shape
        pool: Any = self.pool
        pool = None if pool is None else pool.given(function, e)
        return replace(self, pending=torch.cat([self.pending, X]), function=function, pool=pool)

    def extended_to(self, pending: Tensor) -> "Sequence | None":
        """With all of these points pending; None if they do not begin with those that are already.

        Also None if some of those that are were added one by one and belong to a block that is full now.
        """
        p, in_blocks = len(self.pending), len(pending) // BLOCK * BLOCK
        if len(pending) < p or not torch.equal(pending[:p], self.pending) or (p < in_blocks and p % BLOCK):
            return None
        extended = self
        while p < len(pending):
            b = BLOCK if p < in_blocks else 1
            extended = extended.given(pending[p : p + b])
            p += b
        return extended


@dataclass(frozen=True)
class _Kept:
    """What is kept of a fitted model: the run's first sequence, its last, and what they depend on."""

    key: Any
    data: tuple[tuple[Tensor, int], ...]
    parameters: tuple[Tensor, ...]
    first: Sequence
    last: Sequence

    def is_of(self, model: Any) -> bool:
        """Whether the model is what it was: the very tensors of data, the same hyperparameters."""
        data, parameters = _data_of(model), tuple(model.parameters())
        return (
            len(data) == len(self.data)
            and all(one is other and now == then for (one, now), (other, then) in zip(data, self.data, strict=True))
            and len(parameters) == len(self.parameters)
            and all(torch.equal(one, other) for one, other in zip(parameters, self.parameters, strict=True))
        )


_KEPT: "WeakKeyDictionary[Model, _Kept]" = WeakKeyDictionary()


def forget(model: Model) -> None:
    """Frees what is kept of a model that no ask will come back to: n x n matrices, long before the model itself goes."""
    _KEPT.pop(model, None)


def _data_of(model: Any) -> tuple[tuple[Tensor, int], ...]:
    """The training data, with the count of changes in place that each tensor has seen."""
    models = getattr(model, "models", [model])  # the models of a list
    return tuple((tensor, tensor._version) for one in models for tensor in (*one.train_inputs, one.train_targets))


class Sequences:
    """The sequences of one ask, continued from the last ask where nothing but the pending points has changed.

    Args:
        model: The fitted model.
        key: Whatever else the function depends on, its seed included; compared by ``==``.
        seed: See ``seed_of_run``.
        build: Makes the function without pending points.
        none: An empty tensor of points. shape: (0, d)
    """

    def __init__(self, model: Model, key: Any, seed: int, build: Callable[[], ClosedForm], none: Tensor) -> None:
        self.none = none
        self._model = model
        self._key = (key, seed)
        kept = _KEPT.get(model)
        if kept is not None and kept.key == self._key and kept.is_of(model):
            self._first, self._last = kept.first, kept.last
        else:
            self._first = self._last = Sequence(seed, none, build())

    def at(self, pending: Tensor) -> Sequence:
        """The sequence with these points pending. shape: (p, d)"""
        for known in (self._last, self._first):
            sequence = known.extended_to(pending)
            if sequence is not None:
                break
        assert sequence is not None  # the first has no pending points
        self._keep(self._first, sequence)
        return sequence

    def with_pool(self, pending: Tensor, key: Any, raw: Callable[[int], Tensor]) -> tuple[Sequence, Pool | JointPool]:
        """The sequence with its scored raw samples, which ``raw`` makes from a seed. shape: (p, d)"""
        sequence = self.at(pending)
        if sequence.pool is None or sequence.pool_key != key:
            first = self._first
            pool = pool_of(first.function, raw(derive_seed(first.seed, 2, 0, 0)))
            first = replace(first, pool=pool, pool_key=key)
            extended = first.extended_to(pending)
            assert extended is not None
            sequence = extended
            self._keep(first, sequence)
        assert sequence.pool is not None
        return sequence, sequence.pool

    def _keep(self, first: Sequence, last: Sequence) -> None:
        self._first, self._last = first, last
        parameters = tuple(parameter.detach().clone() for parameter in self._model.parameters())
        _KEPT[self._model] = _Kept(self._key, _data_of(self._model), parameters, first, last)
