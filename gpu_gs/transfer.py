"""What passes between the host and a device, and when the host may wait for it.

On a GPU the host queues work and goes on. To read one number back it waits until all that was queued is done, and the
GPU then waits for the host: so the host reads seldom, and several tensors at once (``read``). A tensor that it brings
to the device it remembers (``to_device``, ``on_host``), and what it brings lies in pinned memory, which is copied while
the host goes on.

On the CPU nothing is brought anywhere: ``to_device``, ``on_host`` and ``read`` return what they were given.
"""

from collections.abc import Iterable, MutableMapping

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

CHEAP_ON = ("cpu",)
"""Kinds of device whose numbers the host may look at for nothing. Empty, and the CPU goes the way of a GPU: for tests."""

_REMEMBERED: MutableMapping[Tensor, tuple[Tensor, int]] = WeakTensorKeyDictionary()
"""Tensors of a device, each with its values on the host and the count of changes in place at which it had them."""


def looking_is_cheap(tensor: Tensor) -> bool:
    """Whether the host may look at a tensor's values to save work, as in ``if mask.any()``; on a GPU it would wait.

    This is the one place that decides whether rows that are done leave a batch or stand still in it, and whether rare
    cases are looked for or always computed.
    """
    return tensor.device.type in CHEAP_ON


def to_device(tensor: Tensor, device: torch.device | str | None) -> Tensor:
    """A tensor of the host on a device. Do not change the former afterwards: ``on_host`` returns it.

    Args:
        tensor: On the CPU.
        device: None means the CPU.
    """
    if device is None or torch.device(device).type == tensor.device.type:
        return tensor
    there = tensor.pin_memory().to(device=device, non_blocking=True)
    _REMEMBERED[there] = (tensor.detach(), there._version)
    return there


def on_host(tensor: Tensor) -> Tensor:
    """The values of a tensor, not to be changed: those that it was made of, if it is as it was, else read back."""
    if tensor.device.type == "cpu":
        return tensor
    found = _REMEMBERED.get(tensor)
    if found is None or found[1] != tensor._version:
        found = _REMEMBERED[tensor] = (tensor.detach().cpu(), tensor._version)
    return found[0]


def remembered(tensor: Tensor) -> bool:
    """Whether ``on_host`` returns the values without waiting."""
    found = _REMEMBERED.get(tensor)
    return tensor.device.type == "cpu" or (found is not None and found[1] == tensor._version)


def read(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Tensors of one device, of numbers that float64 holds exactly, on the host: in one transfer."""
    tensors = list(tensors)
    if not tensors or tensors[0].device.type == "cpu":
        return tensors
    flat = torch.cat([tensor.detach().reshape(-1).double() for tensor in tensors]).cpu()
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    return [part.reshape(tensor.shape).to(tensor.dtype) for part, tensor in zip(parts, tensors, strict=True)]


__all__ = ["looking_is_cheap", "on_host", "read", "remembered", "to_device"]
