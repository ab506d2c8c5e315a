"""Ax's standardization of outcomes, with the scale of the last refit where hyperparameters are kept.

A GP's hyperparameters are of standardized outcomes: kept ones stay true only with the mean and deviation that they were
fitted to. A known noise variance, too, is then the same number as at the last ask, so that the factorization of old rows
still holds.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from ax.adapter.base import Adapter
from ax.adapter.transforms.base import Transform
from ax.adapter.transforms.standardize_y import StandardizeY as AxStandardizeY
from ax.core.data_utils import ExperimentData
from ax.core.search_space import SearchSpace
from ax.generators.types import TConfig

from gpu_gs.gp.refit import YMaps


@runtime_checkable
class KeepsScales(Protocol):
    """A generator that may keep hyperparameters from ask to ask."""

    def kept_y_maps(self, counts: dict[str, int], today: YMaps) -> YMaps:
        """The mean and deviation of the last refit of each outcome that will not be refitted, as far as is known.

        Args:
            counts: Observations of each outcome.
            today: The mean and deviation of each.
        """
        ...


class StandardizeY(AxStandardizeY):
    """Ax's transform in an adapter whose generator ``KeepsScales``; elsewhere Ax's.

    It has the name of Ax's class: an adapter knows its transforms, and their configurations, by the names of classes.
    """

    def __init__(
        self,
        search_space: SearchSpace | None = None,
        experiment_data: ExperimentData | None = None,
        adapter: Adapter | None = None,
        config: TConfig | None = None,
    ) -> None:
        super().__init__(search_space=search_space, experiment_data=experiment_data, adapter=adapter, config=config)
        #: The mean and deviation that each outcome has.
        self.today: YMaps = self.y_maps
        generator = getattr(adapter, "generator", None)
        if not isinstance(generator, KeepsScales):
            return
        assert experiment_data is not None
        outcomes = experiment_data.observation_data["mean"]
        counts = {str(name): len(column.dropna()) for name, column in outcomes.items()}
        for name, (mean, deviation) in generator.kept_y_maps(counts, self.today).items():
            self.Ymean[name], self.Ystd[name] = mean, deviation

    @property
    def y_maps(self) -> YMaps:
        """Mean and deviation by which each outcome is standardized."""
        return {name: (float(mean), float(self.Ystd[name])) for name, mean in self.Ymean.items()}


def with_kept_scale(transforms: Sequence[type[Transform]]) -> list[type[Transform]]:
    """The same transforms, with ours in the place of Ax's (a subclass of it stays)."""
    return [StandardizeY if kind is AxStandardizeY else kind for kind in transforms]
