"""The measurement: an ask's building blocks, timed at a few n on the CPU at each number of threads, or on a GPU."""

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from gpu_gs.device.costs import MEASURED_PARAMETERS, RESTARTS, SCORED_SAMPLES, Costs, Seconds
from gpu_gs.device.gpus import cuda_devices
from gpu_gs.device.policy import Decision
from gpu_gs.device.threads import applied, available_cores

CPU_SIZES = (64, 256, 1024)
CUDA_SIZES = (64, 512, 2048, 4096)

PROBE_BUFFERS = 12
"""n x n float64 buffers that ``Probe`` holds at a time, at the most."""

ROUNDS = 5
"""Each block is timed this often and the shortest time counts; thread counts take turns, so that a busy moment of
the machine meets all of them."""

BUDGET_S = 2.0
"""After this long, what is still missing is timed once instead of ``ROUNDS`` times."""

HOPELESS = 3.0
"""Threads that take this many times as long as the best for an evaluation of the marginal likelihood are timed twice,
and not at a larger n if that would take more than the rest of the time."""

BUSY_LOAD = 0.5
"""Load average per core above which a measurement is of a busy machine."""

OPTIMIZER_OPERATIONS = 100
"""Small operations of torch in one step of ``gpu_gs.minimize``, about."""


class Calibration(BaseModel):
    """A measurement.

    Attributes:
        key: What it belongs to, by name.
        measured: When, in seconds since 1970.
        took: Seconds it took.
        load: Load average per core when it began; None where the system does not tell.
        operation: Seconds of a small operation of torch on the host.
        places: Costs at each number of threads, ascending; one entry for a GPU.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    key: dict[str, str]
    measured: float
    took: float
    load: float | None
    operation: Seconds
    places: tuple[Costs, ...]

    @property
    def busy(self) -> bool:
        """Whether others were computing meanwhile, so that more threads looked worse than they are."""
        return self.load is not None and self.load > BUSY_LOAD

    def nearest(self, threads: int) -> Costs:
        """The costs at the largest measured number of threads up to this one."""
        return next((costs for costs in reversed(self.places) if costs.threads <= threads), self.places[0])


def measure(device: str, key: dict[str, str]) -> Calibration:
    """Measures the CPU at each number of threads, or a GPU. Leaves threads, random state and modes as they were."""
    import torch

    from gpu_gs.rng import guest

    load = os.getloadavg()[0] / (os.cpu_count() or 1) if hasattr(os, "getloadavg") else None
    started = time.perf_counter()
    counts = thread_counts(available_cores()) if device == "cpu" else (1,)
    with guest(), torch.no_grad():
        places = _places(device, counts, _sizes(device), started + BUDGET_S)
        if device != "cpu":
            torch.cuda.empty_cache()  # the memory is the user's
        with applied(Decision("cpu", threads=1)):
            operation = _operation()
    return Calibration(
        key=key,
        measured=time.time(),
        took=time.perf_counter() - started,
        load=load,
        operation=operation,
        places=places,
    )


def _sizes(device: str) -> tuple[int, ...]:
    """The n to measure; on a GPU those that leave three quarters of its memory alone."""
    if device == "cpu":
        return CPU_SIZES
    memory = next(gpu.memory_bytes for gpu in cuda_devices() if gpu.name == device)
    return tuple(n for n in CUDA_SIZES if 4 * PROBE_BUFFERS * 8 * n * n <= memory) or CUDA_SIZES[:1]


def thread_counts(cores: int) -> tuple[int, ...]:
    """1, 2, 4, ... and the number of cores."""
    return tuple(sorted({*(2**k for k in range(cores.bit_length()) if 2**k <= cores), cores}))


BLOCKS = ("fit", "factor", "score", "step")


def _places(device: str, counts: Sequence[int], sizes: Sequence[int], deadline: float) -> tuple[Costs, ...]:
    curves: dict[int, dict[str, list[float]]] = {threads: {block: [] for block in BLOCKS} for threads in counts}
    multiply_add: dict[int, float] = {}
    transfer = (0.0, 0.0)
    for position, n in enumerate(sizes):
        probe = Probe(n, device)
        remaining = deadline - time.perf_counter()
        entering = [threads for threads in counts if not _too_slow(threads, curves, sizes[:position], n, remaining)]
        shortest = _shortest_of_rounds(probe, entering, deadline, cold=position == 0 or device != "cpu")
        for threads, seconds in shortest.items():
            for block in BLOCKS:
                # Noise must not make a larger problem look cheaper.
                so_far = curves[threads][block]
                so_far.append(max([seconds[block], *so_far[-1:]]))
            multiply_add[threads] = seconds["product"] / (n * n * MEASURED_PARAMETERS)
        if device != "cpu":
            transfer = probe.transfer()
    return tuple(
        Costs(
            threads=threads,
            sizes=tuple(sizes[: len(curves[threads]["fit"])]),
            **{block: tuple(curve) for block, curve in curves[threads].items()},
            multiply_add=multiply_add[threads],
            read=transfer[0],
            byte=transfer[1],
        )
        for threads in counts
    )


def _too_slow(
    threads: int, curves: dict[int, dict[str, list[float]]], sizes: Sequence[int], n: int, remaining: float
) -> bool:
    """Whether a number of threads is far behind and would use up the time: its curve then ends before n."""
    if not sizes:
        return False
    if len(curves[threads]["fit"]) < len(sizes):
        return True
    last = curves[threads]["fit"][-1]
    best = min(curve["fit"][-1] for curve in curves.values() if len(curve["fit"]) == len(sizes))
    return last > HOPELESS * best and last * (n / sizes[-1]) ** 2 > remaining


def _shortest_of_rounds(
    probe: "Probe", counts: Sequence[int], deadline: float, cold: bool
) -> dict[int, dict[str, float]]:
    """The shortest time of each block at each number of threads."""
    shortest = {threads: dict.fromkeys((*BLOCKS, "product"), float("inf")) for threads in counts}
    for number in range(ROUNDS):
        if number > 0 and time.perf_counter() > deadline:
            break
        best = min(seconds["fit"] for seconds in shortest.values())
        for threads, seconds in shortest.items():
            if number > 1 and seconds["fit"] > HOPELESS * best:
                continue
            with applied(Decision("cpu", threads=threads)):
                if number == 0 and cold:
                    probe.warm_up()
                for block in seconds:
                    seconds[block] = min(seconds[block], probe.seconds(block))
    return shortest


class Probe:
    """The building blocks of an ask on made-up data: the arithmetic of ``gpu_gs.gp`` and ``gpu_gs.optimize``.

    They are written out here because nothing on this level may import those.
    """

    def __init__(self, n: int, device: str) -> None:
        import torch

        generator = torch.Generator().manual_seed(0)
        d = MEASURED_PARAMETERS

        def uniform(*shape: int) -> Any:
            return torch.rand(*shape, generator=generator, dtype=torch.float64).to(device)

        self.device = device
        self.X, self.y = uniform(n, d), uniform(n, 1)
        self.samples, self.restarts = uniform(SCORED_SAMPLES, d), uniform(RESTARTS, d)
        self.K = self._covariance(self.X).clone()
        self.K.diagonal().add_(0.1)
        self.L = torch.linalg.cholesky(self.K)
        self.alpha = torch.cholesky_solve(self.y, self.L)
        self.H = uniform(RESTARTS, d, d)
        self.buffers = [torch.empty_like(self.K) for _ in range(2)]

    def _covariance(self, Z: Any) -> Any:
        """shape: (b, d) -> (b, n)"""
        q = (-2 * Z) @ self.X.T
        q.add_((Z * Z).sum(-1).unsqueeze(-1)).add_((self.X * self.X).sum(-1))
        return q.clamp_min_(0).mul_(-0.5).exp_()

    def fit(self) -> None:
        import torch

        k = self._covariance(self.X)
        S = torch.mul(k, 1.0, out=self.buffers[0])
        S.diagonal().add_(0.1)
        L, info = torch.linalg.cholesky_ex(
            S, out=(self.buffers[1], torch.empty((), dtype=torch.int32, device=S.device))
        )
        bool(info > 0)  # the host looks, as in gpu_gs.gp.likelihood
        a = torch.cholesky_solve(self.y, L)
        (L.diagonal().log().sum() + (self.y * a).sum()).unsqueeze(0)
        G = torch.cholesky_inverse(L, out=self.buffers[0])
        G.addcmul_(a, a.T, value=-1).mul_(k)
        (G.sum(-1, keepdim=True) * self.X * self.X).sum(0) - (self.X * (G @ self.X)).sum(0)
        self._optimizer_step(self.H[:1])

    def factor(self) -> None:
        import torch

        K = self._covariance(self.X)
        K.diagonal().add_(0.1)
        torch.cholesky_solve(self.y, torch.linalg.cholesky(K))

    def score(self) -> None:
        import torch

        k = self._covariance(self.samples)
        v = torch.linalg.solve_triangular(self.L, k.T, upper=False)
        mean, variance = k @ self.alpha, 1 - (v * v).sum(0)
        self._improvement(mean.squeeze(-1), variance)

    def step(self) -> None:
        import torch

        k = self._covariance(self.restarts)
        v = torch.linalg.solve_triangular(self.L, k.T, upper=False)
        mean, variance = k @ self.alpha, 1 - (v * v).sum(0)
        self._improvement(mean.squeeze(-1), variance)
        u = torch.linalg.solve_triangular(self.L.T, v, upper=True).T
        weight = (self.alpha.squeeze(-1) - 2 * u) * k
        weight @ self.X - weight.sum(-1, keepdim=True) * self.restarts
        self._optimizer_step(self.H)

    def product(self) -> None:
        import torch

        torch.mm(self.X, self.X.T, out=self.buffers[0])

    @staticmethod
    def _improvement(mean: Any, variance: Any) -> None:
        """As many small operations as the logarithm of the expected improvement takes."""
        u = mean / variance.clamp_min(1e-12).sqrt()
        for _ in range(15):
            u = (u * 0.5).exp().log()

    @staticmethod
    def _optimizer_step(H: Any) -> None:
        g = H[..., 0]
        for _ in range(OPTIMIZER_OPERATIONS // 4):
            g = (H @ g.unsqueeze(-1)).squeeze(-1) * 0.1
            g = g - g.sum(-1, keepdim=True)
        bool((g > 0).any())  # the one host synchronization of a step

    def _synchronize(self) -> None:
        if self.device != "cpu":
            import torch

            torch.cuda.synchronize(self.device)

    def warm_up(self) -> None:
        """What happens at the first use of a library, or of a number of threads."""
        for block in (*BLOCKS, "product"):
            getattr(self, block)()
        self._synchronize()

    def seconds(self, block: str) -> float:
        self._synchronize()
        started = time.perf_counter()
        getattr(self, block)()
        self._synchronize()
        return time.perf_counter() - started

    def transfer(self) -> tuple[float, float]:
        """Seconds of a number read back from the device, and of a byte brought to it."""
        data = self.K.cpu()
        read = _shortest(lambda: float(self.y[0, 0]), 20)
        started = time.perf_counter()
        data.to(self.device)
        self._synchronize()
        return read, (time.perf_counter() - started) / (8 * data.numel())


def _operation() -> float:
    """Seconds of a small operation of torch on the host."""
    import torch

    x = torch.ones(8, dtype=torch.float64)

    def chain() -> None:
        for _ in range(500):
            x.mul_(1.0)

    return _shortest(chain, 5) / 500


def _shortest(work: Callable[[], object], times: int) -> float:
    found = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return min(found)


__all__ = ["Calibration", "Probe", "measure", "thread_counts"]
