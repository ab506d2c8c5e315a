"""A plain BoTorch loop, as its tutorial "Closed-loop batch, constrained BO in BoTorch with qLogEI and qLogNEI" has it.

A SingleTaskGP over inputs scaled to the unit cube and standardized values, fitted anew at each ask; then
qLogNoisyExpectedImprovement over 256 Sobol samples, the points that run among its pending ones, maximized from 10 of 512
raw samples, all points of an ask jointly.
"""

from collections.abc import Sequence

from gpu_gs.bench.contestants.base import Contestant, Entry, Outcomes
from gpu_gs.bench.problems import Problem
from gpu_gs.bench.spaces import Float, Point

SAMPLES = 256
RESTARTS = 10
RAW_SAMPLES = 512


class BoTorchContestant(Contestant):
    """One objective over floats in a box."""

    takes = frozenset()

    def start(self, problem: Problem, seed: int, points: Sequence[Point], outcomes: Sequence[Outcomes]) -> None:
        import torch

        self.check(problem)
        (self.objective,) = problem.objectives
        box = [(p.low, p.high) for p in problem.space.parameters if isinstance(p, Float)]
        self.bounds = torch.tensor(box, dtype=torch.double).T  # shape: (2, d)
        self.seed, self.asks = seed, 0
        self.points = [list(point) for point in points]
        self.values = [known[self.objective] for known in outcomes]
        self.running: list[Point] = []

    def ask(self, count: int = 1) -> list[Point]:
        from botorch.utils.sampling import manual_seed

        with manual_seed(self.seed * 100_003 + self.asks):
            asked = self._candidates(count)
        self.asks += 1
        self.running += asked
        return asked

    def _candidates(self, count: int) -> list[Point]:
        import torch
        from botorch.acquisition.logei import qLogNoisyExpectedImprovement
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import SingleTaskGP
        from botorch.models.transforms import Normalize, Standardize
        from botorch.optim import optimize_acqf
        from botorch.sampling import SobolQMCNormalSampler
        from gpytorch.mlls import ExactMarginalLogLikelihood

        X = self.bounds.new_tensor(self.points)  # shape: (n, d)
        Y = -self.bounds.new_tensor(self.values)[:, None]  # BoTorch maximizes
        model = SingleTaskGP(
            X,
            Y,
            input_transform=Normalize(d=X.shape[-1], bounds=self.bounds),
            outcome_transform=Standardize(m=1),
        )
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        sampler = SobolQMCNormalSampler(torch.Size([SAMPLES]))
        acquisition = qLogNoisyExpectedImprovement(
            model,
            X_baseline=X,
            sampler=sampler,
            prune_baseline=True,
            X_pending=X.new_tensor(self.running) if self.running else None,
        )
        found, _ = optimize_acqf(
            acquisition,
            bounds=self.bounds,
            q=count,
            num_restarts=RESTARTS,
            raw_samples=RAW_SAMPLES,
            options={"batch_limit": 5, "maxiter": 200},
        )
        return found.tolist()

    def tell(self, points: Sequence[Point], outcomes: Sequence[Outcomes]) -> None:
        for known in outcomes:
            self.points.append(self.running.pop(0))
            self.values.append(known[self.objective])


ENTRIES = (Entry("botorch", label="BoTorch", colour="#7516fc", build=BoTorchContestant),)
