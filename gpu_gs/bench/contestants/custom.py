"""Strategies as people build them from Ax's parts, as they are and after ``accelerate``: what it brings to each."""

from collections.abc import Sequence
from typing import Any, ClassVar

from gpu_gs.bench.contestants.ax import AxContestant
from gpu_gs.bench.contestants.base import Contestant, Entry, Outcomes
from gpu_gs.bench.problems import Problem
from gpu_gs.bench.spaces import Point

NODE = "model"


class CustomContestant(AxContestant):
    """A strategy of one BoTorch node with arguments of its own, under Ax's Client.

    Attributes:
        accelerated: Whether ``accelerate`` is called on it.
    """

    accelerated: ClassVar[bool] = False
    takes = frozenset({"outcome constraints"})

    def __init__(self) -> None:
        super().__init__(config="")
        self.dimensions = 0

    def arguments(self) -> dict[str, Any]:
        """The node's, for so many parameters as the problem has."""
        raise NotImplementedError

    def start(self, problem: Problem, seed: int, points: Sequence[Point], outcomes: Sequence[Outcomes]) -> None:
        self.dimensions = len(problem.space.parameters)
        super().start(problem, seed, points, outcomes)

    def strategy(self, seed: int, budget: int) -> Any:
        from ax.adapter.registry import Generators
        from ax.generation_strategy.generation_node import GenerationNode
        from ax.generation_strategy.generation_strategy import GenerationStrategy
        from ax.generation_strategy.generator_spec import GeneratorSpec

        from gpu_gs.plugin.accelerate import accelerate

        spec = GeneratorSpec(Generators.BOTORCH_MODULAR, generator_kwargs=self.arguments())
        strategy = GenerationStrategy(nodes=[GenerationNode(name=NODE, generator_specs=[spec])], name=NODE)
        return accelerate(strategy, "fast", seed=seed) if self.accelerated else strategy


class Matern(CustomContestant):
    """A kernel of one's own: Matern 5/2, where Ax's default is RBF."""

    def arguments(self) -> dict[str, Any]:
        from ax.generators.torch.botorch_modular.surrogate import ModelConfig, SurrogateSpec
        from gpytorch.kernels import MaternKernel

        config = ModelConfig(covar_module_class=MaternKernel, covar_module_options={"nu": 2.5}, name="matern")
        return {"surrogate_spec": SurrogateSpec(model_configs=[config])}


class MaternAccelerated(Matern):
    accelerated = True


class Warped(CustomContestant):
    """Inputs that are warped before the kernel sees them."""

    def arguments(self) -> dict[str, Any]:
        from ax.generators.torch.botorch_modular.surrogate import ModelConfig, SurrogateSpec
        from botorch.models.transforms.input import Normalize, Warp

        warp = {"indices": list(range(self.dimensions)), "d": self.dimensions}
        config = ModelConfig(
            input_transform_classes=[Normalize, Warp],
            input_transform_options={"Normalize": {}, "Warp": warp},
            name="warped",
        )
        return {"surrogate_spec": SurrogateSpec(model_configs=[config])}


class WarpedAccelerated(Warped):
    accelerated = True


class Bound(CustomContestant):
    """An acquisition function of one's own choice: BoTorch's upper confidence bound by sampling."""

    def arguments(self) -> dict[str, Any]:
        from botorch.acquisition import qUpperConfidenceBound

        return {"botorch_acqf_class": qUpperConfidenceBound, "botorch_acqf_options": {"beta": 2.0}}


class BoundAccelerated(Bound):
    accelerated = True


def _pair(
    name: str, label: str, colours: tuple[str, str], plain: type[Contestant], fast: type[Contestant]
) -> tuple[Entry, Entry]:
    return (
        Entry(f"ax-{name}", label=f"Ax, {label}", colour=colours[0], build=plain),
        Entry(f"accelerated-{name}", label=f"Ax, {label}, accelerated", colour=colours[1], build=fast),
    )


ENTRIES = (
    *_pair("matern", "Matern kernel", ("#e6ab02", "#7570b3"), Matern, MaternAccelerated),
    *_pair("warped", "warped inputs", ("#a6761d", "#1b9e77"), Warped, WarpedAccelerated),
    *_pair("ucb", "qUCB", ("#e7298a", "#66a61e"), Bound, BoundAccelerated),
)
