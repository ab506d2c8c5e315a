"""CUDA emulated on the CPU, to count where the host would wait for a GPU.

Inside ``EmulatedCuda()`` torch takes "cuda" for a device that is there. A tensor on it says ``is_cuda`` and is a
``DeviceTensor`` around a tensor of the CPU, which does the arithmetic; so whatever branches on the device goes the way
that it goes on a GPU, in our code, in Ax, BoTorch, GPyTorch and torch's own Python. Each operation passes
``__torch_dispatch__``, and those in which torch waits for the GPU are noted with the lines that they came from. They are
those that ``torch.cuda.set_sync_debug_mode`` knows too:

- a number or a tensor that is read back (``item``, ``tolist``, ``bool``, ``float``, ``cpu``), compared by ``equal``, or
  checked for errors (``torch.linalg.cholesky`` and others without ``_ex``),
- a shape that depends on values: ``nonzero``, ``unique``, ``masked_select``, an index that is a mask,
- a tensor of the host that is brought there from pageable memory, as by ``torch.tensor(..., device=...)``, by
  ``new_tensor``, or by an index that is a list.

Operands on two devices raise an error, as on a GPU, unless the one on the CPU is a number. A number that is put where a
mask is true counts although torch need not wait for it on CUDA; one that is put into a single element or at indices does
not, although torch waits: here it cannot be told from a tensor of one element.

What it cannot see: where a library under torch waits by itself (cuSOLVER, MAGMA, the allocator when it frees memory, a
full queue of launches), operations of which torch's documentation does not say that they wait, and all times. And the
arithmetic is the CPU's: another order of summation may take another number of steps.
"""

import sys
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

aten = torch.ops.aten

BACKEND = "emulated"
DEVICE = f"{BACKEND}:0"

PACKAGE = str(Path(__file__).resolve().parent.parent / "gpu_gs")
NO_PLACE = (str(Path(torch.__file__).parent), __file__, str(Path(PACKAGE) / "transfer.py"))

ALWAYS = {
    aten._local_scalar_dense: "number read back",
    aten._linalg_check_errors: "errors looked for",
    aten.is_nonzero: "number read back",
    aten.allclose: "compared",
    aten.nonzero: "shape from values",
    aten.masked_select: "shape from values",
    aten._unique: "shape from values",
    aten._unique2: "shape from values",
    aten.unique_dim: "shape from values",
    aten.unique_consecutive: "shape from values",
    aten.unique_dim_consecutive: "shape from values",
    aten.bincount: "shape from values",
}
INDEXING = (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index)


@dataclass(frozen=True)
class Wait:
    """A place where the host waits: what for, our line that led there, and the line that called torch."""

    kind: str
    ours: str
    line: str


class DeviceTensor(Tensor):
    """A tensor that says it is on CUDA; ``inner`` is on the CPU."""

    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor) -> "DeviceTensor":
        made = Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=DEVICE,
        )
        made.inner = inner
        return made

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{function} outside of EmulatedCuda")

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __repr__(self, **_: Any) -> str:
        return f"DeviceTensor({self.inner!r})"


class _Generator(torch.Generator):
    """A generator of the CPU, whatever device it is asked to be on."""

    def __new__(cls, device: Any = None) -> "_Generator":
        return super().__new__(cls, device="cpu")


class EmulatedCuda(TorchDispatchMode):
    """See above. Not nested, and not in two threads.

    Attributes:
        waits: Where the host has waited, in order, but for the borders of timed stages.
        borders: How often ``torch.cuda.synchronize`` was called, as exact stage times do at the borders of stages.
    """

    def __init__(self) -> None:
        super().__init__()
        if not hasattr(torch, BACKEND):
            _setup_privateuseone_for_python_backend(rename=BACKEND)
        self.waits: list[Wait] = []
        self.borders = 0
        self._patches = ExitStack()

    def __enter__(self) -> "EmulatedCuda":
        # else torch.tensor() copies to the device before a mode hears of it
        before = torch._C._only_lift_cpu_tensors()
        self._patches.callback(torch._C._set_only_lift_cpu_tensors, before)
        torch._C._set_only_lift_cpu_tensors(True)
        self._patches.enter_context(mock.patch.object(torch, "Generator", _Generator))
        self._patches.enter_context(mock.patch.object(torch.cuda, "synchronize", self._border))
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._patches.close()

    def start(self) -> None:
        """Forgets what was counted so far."""
        self.waits, self.borders = [], 0

    def table(self) -> str:
        """What was counted, by line."""
        counted = Counter(self.waits)
        return "\n".join(
            f"{count:4d}  {wait.kind:18s}  {wait.ours}" + ("" if wait.line == wait.ours else f"  ({wait.line})")
            for wait, count in counted.items()
        )

    def _border(self, device: Any = None) -> None:
        self.borders += 1

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        any_there = any(isinstance(tensor, DeviceTensor) for tensor in tensors)
        target = kwargs.get("device")
        there = any_there if target is None else torch.device(target).type == BACKEND
        if target is not None and (there or any_there):
            kwargs["device"] = torch.device("cpu")
        if any_there or there:
            self._look_at(function.overloadpacket, args, kwargs, tensors, any_there, there)
        if function.overloadpacket in (aten.is_pinned, aten._pin_memory):
            return _pinned(function.overloadpacket, args[0])
        if there and not any_there and kwargs.get("pin_memory"):
            kwargs["pin_memory"] = False
        own = {id(tensor.inner): tensor for tensor in tensors if isinstance(tensor, DeviceTensor)}
        if own and function.overloadpacket is aten._to_copy and not there:
            return function(*_unwrapped(args), **kwargs).clone()
        out = function(*_unwrapped(args), **_unwrapped(kwargs))

        def wrapped(tensor: Tensor) -> Tensor:
            known = own.get(id(tensor))
            if known is not None:
                assert known.shape == tensor.shape, f"{function} changes the shape of a tensor in place"
                return known
            host = [one for one in tensors if one is tensor]
            return host[0] if host else DeviceTensor(tensor)

        return tree_map_only(Tensor, wrapped, out) if there else out

    def _look_at(
        self, operation: Any, args: Any, kwargs: Any, tensors: list[Tensor], any_there: bool, there: bool
    ) -> None:
        if operation is aten.equal:
            if len({isinstance(tensor, DeviceTensor) for tensor in args[:2]}) > 1:
                raise RuntimeError("Cannot compare two tensors on different devices")
            if args[0].shape == args[1].shape and args[0].numel() > 0:  # else torch knows without looking
                self._wait("compared")
        elif operation in ALWAYS:
            self._wait(ALWAYS[operation])
        elif operation is aten.repeat_interleave:
            if kwargs.get("output_size") is None:
                self._wait("shape from values")
        elif operation is aten._to_copy:
            if not there:
                self._wait("tensor read back")
            elif not any_there and args[0].numel() and not (kwargs.get("non_blocking") and _is_pinned(args[0])):
                self._wait("brought there")
        elif operation is aten.copy_:
            to, source = args[:2]
            if isinstance(to, DeviceTensor) != isinstance(source, DeviceTensor):
                blocking = not (len(args) > 2 and args[2]) and not kwargs.get("non_blocking")
                if isinstance(source, DeviceTensor):
                    self._wait("tensor read back")
                elif blocking or not _is_pinned(source):
                    self._wait("brought there")
        elif operation in INDEXING:
            self._index(args)
        elif any_there:
            strangers = [t for t in tensors if not isinstance(t, DeviceTensor) and t.dim() > 0]
            if strangers and operation not in (aten._pin_memory,):
                raise RuntimeError(f"Expected all tensors to be on the same device: {operation}")

    def _index(self, args: Any) -> None:
        """An index that is a mask is turned into places; one on the host, and a value there, are copied."""
        indices = [index for index in args[1] if index is not None]
        value = args[2] if len(args) > 2 else None
        masks = [index for index in indices if index.dtype in (torch.bool, torch.uint8)]
        for index in indices:
            if not isinstance(index, DeviceTensor):
                self._wait("brought there")
        for _ in masks:
            self._wait("shape from values")
        if value is not None and not isinstance(value, DeviceTensor):
            self._wait("brought there")

    def _wait(self, kind: str) -> None:
        frame: FrameType | None = sys._getframe(1)
        line = ours = ""
        while frame is not None and not ours:
            file = frame.f_code.co_filename
            place = f"{Path(file).parent.name}/{Path(file).name}:{frame.f_lineno} {frame.f_code.co_name}"
            if not line and not file.startswith(NO_PLACE):
                line = place
            if file.startswith(PACKAGE) and not file.endswith("transfer.py"):
                ours = place
            frame = frame.f_back
        self.waits.append(Wait(kind, ours, line))


def _is_pinned(tensor: Tensor) -> bool:
    return getattr(tensor, "_is_pinned_here", False)


def _pinned(operation: Any, tensor: Tensor) -> Any:
    if operation is aten.is_pinned:
        return _is_pinned(tensor)
    copy = tensor.clone()
    copy._is_pinned_here = True  # type: ignore[attr-defined]
    return copy


def _unwrapped(tree: Any) -> Any:
    unwrap: Callable[[DeviceTensor], Tensor] = lambda tensor: tensor.inner  # noqa: E731
    return tree_map_only(DeviceTensor, unwrap, tree)
