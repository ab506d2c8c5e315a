"""Ax's Acquisition where several outcomes matter: outcome constraints, scalarized objectives, several objectives.

``LogEI`` and ``LogNEI`` mean here what they mean for one outcome: incumbents and fronts from posterior means, or averaged
over joint draws of the latent values. Where no observed point satisfies the outcome constraints there is nothing to
improve on, and the probability of feasibility alone is maximized (``LogPF``); given objective thresholds count as
constraints there. So does stock Ax, but observed values decide there instead of posterior means.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from ax.generators.torch.botorch_modular.surrogate import Surrogate
from ax.generators.torch_base import TorchOptConfig
from botorch.models.model import Model
from botorch.utils.multi_objective.hypervolume import infer_reference_point
from torch import Tensor

from gpu_gs.acquisition.factors import Factor, Feasibility, HypervolumeImprovement, Improvement, within
from gpu_gs.acquisition.joint import Joint
from gpu_gs.acquisition.pareto import nondominated
from gpu_gs.gp.parts import reasons_against
from gpu_gs.gp.posterior import PosteriorState, build_states
from gpu_gs.plugin.closed_form import (
    NEGLIGIBLE_NOISE,
    ClosedFormAcquisition,
    matching,
    order_by_trial,
    relative_noise,
)
from gpu_gs.plugin.forms import Forms, forms_of, shared_rows
from gpu_gs.plugin.surrogate import WarmSurrogate
from gpu_gs.rng import derive_seed

DRAWS = 32
"""Joint draws of the latent values where there is one objective."""

FRONT_DRAWS = 16
"""Joint draws where there are several: each has a front of its own."""

DRAWS_UP_TO = 2
"""Objectives up to which ``auto`` takes draws where there is noise.

With four, 1,024 points cost 0.3 s or more in 16 draws. The front of the posterior means alone orders candidates about as
16 draws do: on fitted models of two objectives with a noise variance of 0.08 to 0.16, by the expected improvement over 256
draws, it gave up 0.001 to 0.08 of its logarithm, 16 draws 0.05 to 0.11."""

ANCHORS = 8
"""Points around which local raw samples are drawn."""


class JointAcquisition(ClosedFormAcquisition):
    """The closed-form acquisition function of several outcomes; see ``gpu_gs.acquisition.joint``."""

    def _prepare(self, torch_opt_config: TorchOptConfig) -> None:
        surrogate = self.surrogate
        forms = forms_of(torch_opt_config)
        assert isinstance(forms, Forms), "reasons_against must be empty"
        self._forms = forms
        self._states = states_of(surrogate.model, forms.outcomes)
        self._order = [order_by_trial(surrogate, i) for i in forms.outcomes]
        Xs = [surrogate.Xs[i] for i in forms.outcomes]
        self._rows = shared_rows(Xs)
        X = Xs[0][self._rows[0]]
        self._eligible = matching(X, self.search_space_digest.bounds, torch_opt_config)
        means = [state.mean_at_training_inputs()[rows] for state, rows in zip(self._states, self._rows, strict=True)]
        self._observed = forms.matrix @ torch.stack(means)  # shape: (p, n)
        self._valid = self._satisfied(self._observed) & self._eligible  # shape: (n,)
        self._reference = self._reference_point(torch_opt_config)
        if self._reference is not None:
            self._objective_thresholds = self._reference
        self._lower, self._upper = self._bounds_of_feasibility(torch_opt_config)  # shape of each: (p,)
        feasible = within(self._observed, self._lower, self._upper) & self._eligible
        self._nothing_feasible = bool((self._lower > -math.inf).any() | (self._upper < math.inf).any()) and not bool(
            feasible.any()
        )
        self._with_draws = self._wants_draws()
        self.label = self._label()
        pending = torch_opt_config.pending_observations
        self._begin(
            surrogate.model,
            X,
            [] if pending is None else [pending[i] for i in forms.outcomes],
            torch_opt_config,
            (
                forms.outcomes,
                tuple(forms.matrix.reshape(-1).tolist()),
                tuple(forms.lower.tolist()),
                tuple(forms.upper.tolist()),
                None if self._reference is None else tuple(self._reference.tolist()),
            ),
        )

    @staticmethod
    def reasons_against(surrogate: Surrogate, torch_opt_config: TorchOptConfig, function: str) -> list[str]:
        """Why there is no closed form of these outcomes, this model or this function."""
        if function == "UCB":
            return ["acquisition: UCB is of one outcome"]
        forms = forms_of(torch_opt_config)
        if not isinstance(forms, Forms):
            return forms
        models = [model for model, _ in models_of(surrogate.model, forms.outcomes)]
        reasons = list(dict.fromkeys(f"model: {reason}" for model in models for reason in reasons_against(model)))
        if not reasons and any(getattr(model, "posterior_states", ()) is None for model in models):
            reasons.append("model: its covariance matrix does not factor")
        if len(forms.lower) == 0 and not len(shared_rows([surrogate.Xs[i] for i in forms.outcomes])[0]):
            reasons.append("acquisition: no point has been observed for all outcomes")
        return reasons

    def _satisfied(self, values: Tensor) -> Tensor:
        """Whether values of the forms satisfy the outcome constraints. shape: (p, *) -> (*)"""
        return within(values[self._forms.objectives :], self._forms.lower, self._forms.upper)

    def _bounds_of_feasibility(self, torch_opt_config: TorchOptConfig) -> tuple[Tensor, Tensor]:
        """Bounds of all forms: objectives have their given thresholds below, the others their constraints."""
        o, forms = self._forms.objectives, self._forms
        thresholds = torch.full_like(self._observed[:o, 0], -math.inf)
        given = torch_opt_config.objective_thresholds if o > 1 else None
        if given is not None:
            thresholds = torch.where(given.isnan(), thresholds, given.to(thresholds))
        lower = torch.cat([thresholds, forms.lower.to(thresholds)])
        return lower, torch.cat([torch.full_like(thresholds, math.inf), forms.upper.to(thresholds)])

    def _reference_point(self, torch_opt_config: TorchOptConfig) -> Tensor | None:
        """The objective thresholds, those that are not given inferred as in Ax; None if there are none."""
        o = self._forms.objectives
        if o == 1:
            return None
        given = torch_opt_config.objective_thresholds
        if given is not None and not bool(given.isnan().any()):
            return given.to(self._observed)
        values = self._observed[:o, self._valid].T  # shape: (n, o)
        if not len(values):
            return None
        front = values[nondominated(values.unsqueeze(0))[0]]
        return infer_reference_point(front, None if given is None else given.to(front), scale=0.1)

    def _wants_draws(self) -> bool:
        if self._config.function in ("LogEI", "LogNEI"):
            return self._config.function == "LogNEI"
        if self._forms.objectives > DRAWS_UP_TO:
            return False
        shares = [relative_noise(state.noise, state.y) for state in self._states]
        return float(torch.stack(shares).max()) > NEGLIGIBLE_NOISE  # one host synchronization

    def _label(self) -> str:
        constrained = len(self._forms.lower) > 0
        if self._nothing_feasible:
            return "LogPF"
        name = "EI" if self._forms.objectives == 1 else "EHVI"
        return f"{'constrained ' if constrained else ''}Log{'N' if self._with_draws else ''}{name}"

    def _closed_form(self, seed: int) -> Joint:
        forms = self._forms
        bounded = slice(forms.objectives, len(forms.matrix))
        feasibility = [Feasibility(forms.lower, forms.upper, bounded)] if len(forms.lower) else []
        count = DRAWS if forms.objectives == 1 else FRONT_DRAWS
        if self.label == "LogPF":
            every = Feasibility(self._lower, self._upper, slice(0, len(forms.matrix)))
            return Joint(self._states, forms.matrix, [every], count)
        states, values = self._states, self._observed.unsqueeze(-1)  # shape: (p, n, 1)
        if self._with_draws:
            states, values = self._drawn(count, seed)
        valid = self._satisfied(values) & self._eligible.unsqueeze(-1)  # shape: (n, S)
        factors: list[Factor] = [self._gain(values, valid), *feasibility]
        return Joint(states, forms.matrix, factors, count)

    def _drawn(self, count: int, seed: int) -> tuple[list[PosteriorState], Tensor]:
        """States with draws, and the values of the forms at the observed points. shape of these: (p, n, S)"""
        states, values = [], []
        for place, (state, order, rows) in enumerate(zip(self._states, self._order, self._rows, strict=True)):
            generator = torch.Generator(device=self._observed.device).manual_seed(derive_seed(seed, place, 0, 0))
            drawn, f = state.draw(state.offset.new_empty(0, len(state.offset)), count, generator, order=order)
            states.append(drawn)
            values.append(f[rows])
        return states, torch.einsum("pm,mns->pns", self._forms.matrix, torch.stack(values))

    def _gain(self, values: Tensor, valid: Tensor) -> Factor:
        """Improvement over the best value of each draw, or over its front. shape: (p, n, S), (n, S)"""
        o = self._forms.objectives
        if o > 1:
            assert self._reference is not None  # there is one where any point is valid
            front = values[:o].permute(2, 1, 0).contiguous()  # shape: (S, n, o)
            known = self.surrogate.partitions if isinstance(self.surrogate, WarmSurrogate) else None
            return HypervolumeImprovement.over(front, valid.T.contiguous(), self._reference, slice(0, o), known)
        objective = values[0]
        best = objective.where(valid, objective.new_tensor(-math.inf)).amax(0)
        # In a draw in which nothing is feasible, every feasible point is an improvement over all that is known.
        highest, lowest = objective.amax(0), objective.amin(0)
        return Improvement(torch.where(valid.any(0), best, lowest - (highest - lowest)), slice(0, 1))

    def _anchors(self) -> Tensor:
        """The best points known: of the highest objective, of the front, or the least infeasible ones."""
        values, o = self._observed[: self._forms.objectives], self._forms.objectives
        if self.label == "LogPF":
            lower, upper = self._lower.unsqueeze(-1), self._upper.unsqueeze(-1)
            excess = torch.maximum(lower - self._observed, self._observed - upper).clamp_min(0).sum(0)
            return self._X[excess.topk(min(ANCHORS, len(excess)), largest=False).indices]
        valid = self._valid.nonzero().squeeze(-1)
        values = values[:, valid]
        if o == 1:
            return self._X[valid[values[0].topk(min(5, len(valid))).indices]]
        front = nondominated(values.T.unsqueeze(0))[0].nonzero().squeeze(-1)
        by_first = front[values[0, front].argsort()]
        spread = torch.linspace(0, len(by_first) - 1, min(ANCHORS, len(by_first)), device=front.device).round().long()
        return self._X[valid[by_first[spread]]]

    def _sure_starts(self) -> Tensor | None:
        """The best points known, where there are outcome constraints, or thresholds that nothing attains.

        The optimum often lies where a constraint becomes active, and what improves there is a wedge so narrow that no raw
        sample falls into it, beside points whose values are worse than those of regions that are merely unknown.
        """
        return self._anchors() if len(self._forms.lower) or self._nothing_feasible else None


def models_of(model: Model, outcomes: Sequence[int]) -> list[tuple[Any, range]]:
    """Of the models of a list, or the one model, those of these outcomes, each with the outcomes that are its own."""
    found, first = [], 0
    for one in getattr(model, "models", [model]):
        own = range(first, first + one.num_outputs)
        first = own.stop
        if any(outcome in own for outcome in outcomes):
            found.append((one, own))
    return found


def states_of(model: Model, outcomes: Sequence[int]) -> list[PosteriorState]:
    """The posterior state of each of these outcomes.

    Raises:
        NotPSDError: A covariance matrix does not factor.
    """
    states: dict[int, PosteriorState] = {}
    for one, own in models_of(model, outcomes):
        kept: Sequence[PosteriorState] | None = getattr(one, "posterior_states", None)
        states.update(zip(own, kept or build_states(one), strict=True))
    return [states[outcome] for outcome in outcomes]


__all__ = ["JointAcquisition"]
