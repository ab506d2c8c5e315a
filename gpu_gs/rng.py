"""Randomness as a pure function of a seed, and the user's process left as it was.

Both blocks change what belongs to the whole process (the global generators, the default device and dtype), so one
thread at a time may be inside: two that saved and restored in turn would leave each other's values behind. Threads that
draw from a global generator while another one asks see the ask's numbers; that cannot be helped from here.

torch is imported when a block begins, not with this module.
"""

import random
import secrets
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np

_PROCESS_STATE = threading.RLock()
"""Held by whoever is inside ``isolated`` or ``guest``."""


def derive_seed(strategy_seed: int, ask: int, candidate: int, attempt: int) -> int:
    """A seed of 63 bits for one attempt at one candidate of one ask; the same on every platform and version.

    Args:
        strategy_seed: The strategy's seed.
        ask: Index of the ask.
        candidate: Index of the candidate in a batch.
        attempt: Index of the de-duplication attempt.

    Raises:
        ValueError: One of them is negative.
    """
    # Each number opens with its length: SeedSequence alone concatenates words, and 2**32 would equal (0, 1).
    words: list[int] = []
    for number in (strategy_seed, ask, candidate, attempt):
        if number < 0:
            raise ValueError(f"A seed is derived from numbers of 0 or more, not {number}.")
        digits = _words_of(number)
        words += [len(digits), *digits]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _words_of(number: int) -> list[int]:
    """Little-endian words of 32 bits; at least one."""
    return [number >> shift & 0xFFFFFFFF for shift in range(0, max(number.bit_length(), 1), 32)]


def fresh_seed() -> int:
    """A seed of 53 bits from the operating system's entropy; any reader of JSON keeps it exactly."""
    return secrets.randbits(53)


@contextmanager
def isolated(seed: int, cuda_device: str | int | None = None) -> Iterator[None]:
    """Seeds torch, numpy's global generator and ``random`` for a block, and restores their states afterwards.

    Args:
        seed: 0 or more; the same seed draws the same numbers.
        cuda_device: The GPU whose generator is seeded too; None: every GPU, if CUDA is in use already.
    """
    import torch

    if cuda_device is not None:
        devices = [torch.device(cuda_device)]
    elif torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        devices = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    else:
        devices = []
    with _PROCESS_STATE, ExitStack() as stack:
        stack.callback(random.setstate, random.getstate())
        stack.callback(np.random.set_state, np.random.get_state())  # noqa: NPY002 - the one that others use
        stack.callback(torch.set_rng_state, torch.get_rng_state())
        random.seed(seed)
        np.random.seed(_words_of(seed))  # noqa: NPY002
        # Not torch.manual_seed: it seeds the GPUs as well, or leaves a seed for when CUDA is used first. And not the
        # bare seed: torch's CPU generator reads no more than its lowest 32 bits.
        mixed = derive_seed(seed, 0, 0, 0)
        torch.default_generator.manual_seed(mixed)
        for device in devices:
            stack.callback(torch.cuda.set_rng_state, torch.cuda.get_rng_state(device), device)
            with torch.cuda.device(device):
                torch.cuda.manual_seed(mixed)
        yield


@contextmanager
def guest() -> Iterator[None]:
    """Gives a block torch's ordinary modes, and the user theirs back afterwards, whatever the block changed.

    A user may ask under ``torch.no_grad()`` or ``inference_mode()``, with a default device or dtype of their own; a
    fit needs gradients, and Ax and BoTorch take the ordinary defaults for granted. The flags of determinism stay the
    user's and are only restored.
    """
    import torch

    def restore_device() -> None:
        if torch.get_default_device() != device:
            torch.set_default_device(None if device.type == "cpu" else device)

    def restore_dtype() -> None:
        if torch.get_default_dtype() != dtype:
            torch.set_default_dtype(dtype)

    def restore_determinism() -> None:
        if (torch.are_deterministic_algorithms_enabled(), _warns_only()) != deterministic:
            torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])
        if (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) != cudnn:
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = cudnn

    with _PROCESS_STATE, ExitStack() as stack:
        device, dtype = torch.get_default_device(), torch.get_default_dtype()
        deterministic = (torch.are_deterministic_algorithms_enabled(), _warns_only())
        cudnn = (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark)
        stack.callback(restore_device)
        stack.callback(restore_dtype)
        stack.callback(restore_determinism)
        stack.callback(torch.set_grad_enabled, torch.is_grad_enabled())
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(mode=False))
        if device.type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if dtype != torch.float32:
            torch.set_default_dtype(torch.float32)
        torch.set_grad_enabled(True)
        yield


def _warns_only() -> bool:
    import torch

    return torch.is_deterministic_algorithms_warn_only_enabled()


__all__ = ["derive_seed", "fresh_seed", "guest", "isolated"]
