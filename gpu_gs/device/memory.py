"""Out of memory on a GPU: half the memory for batches (points scored, evaluations of a fit), then the CPU."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from gpu_gs.device.policy import Decision

_OUT_OF_MEMORY = re.compile(
    r"CUDA\b.*\bout of memory|CU(BLAS|SOLVER|SPARSE|FFT)_STATUS_ALLOC_FAILED|cudaErrorMemoryAllocation", re.IGNORECASE
)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether a GPU ran out of memory: this error, or one that it came from."""
    import torch

    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, torch.OutOfMemoryError):
            return True
        if isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error)):
            return True
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return False


@dataclass(frozen=True)
class FallbackMemory:
    """An attempt at an ask, and what to try after it ran out of memory: half the memory once, then the CPU.

        attempt = FallbackMemory(decision, memory_mb)
        while True:
            try:
                return ask(attempt.decision, attempt.memory_mb)
            except Exception as error:
                following = attempt.after(error)
                if following is None:
                    raise
                attempt = following

    Attributes:
        decision: Where this attempt runs; each step adds to its ``reasons``.
        memory_mb: Memory for scoring points in one call, in MiB.
        halved_from: The full ``memory_mb``, once it has been halved.
        threads_on_cpu: Says how many threads the ask gets there; None: as many as on the GPU.
    """

    decision: Decision
    memory_mb: int
    halved_from: int | None = None
    threads_on_cpu: Callable[[], int] | None = None

    @property
    def halved(self) -> bool:
        """Whether this attempt, on the GPU, has half the memory."""
        return self.halved_from is not None and self.decision.device != "cpu"

    def after(self, error: BaseException) -> "FallbackMemory | None":
        """The next attempt; None if the error is another one or nothing is left to try. Frees torch's cache."""
        device = self.decision.device
        if device == "cpu" or not is_out_of_memory(error):
            return None
        import torch

        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()
        if self.halved_from is None and self.memory_mb > 1:
            reason = f"out of memory on {device}: tried again with half the memory for a batch"
            return replace(
                self, decision=self._because(reason), memory_mb=self.memory_mb // 2, halved_from=self.memory_mb
            )
        threads = self.decision.threads if self.threads_on_cpu is None else self.threads_on_cpu()
        decision = replace(
            self._because(f"out of memory on {device}: this ask ran on the CPU"), device="cpu", threads=threads
        )
        return replace(self, decision=decision, memory_mb=self.halved_from or self.memory_mb)

    def _because(self, reason: str) -> Decision:
        return replace(self.decision, reasons=(*self.decision.reasons, reason))


__all__ = ["FallbackMemory", "is_out_of_memory"]
