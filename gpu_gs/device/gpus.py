"""The GPUs that torch sees and can use, found out once in a process."""

import functools
from dataclasses import dataclass


@dataclass(frozen=True)
class CudaDevice:
    """A GPU: ``name`` as torch takes it, ``model`` as its maker calls it, memory in bytes."""

    name: str
    model: str
    memory_bytes: int


@functools.cache
def reasons_cuda_is_unusable() -> tuple[str, ...]:
    """Why no work can run on CUDA in this process; empty means it can. Found out once."""
    import torch

    if not torch.backends.cuda.is_built():  # type: ignore[no-untyped-call]
        return (f"no CUDA device: torch {torch.__version__} is built without CUDA",)
    try:
        if not torch.cuda.is_available() or torch.cuda.device_count() == 0:
            return (f"no CUDA device: torch {torch.__version__}, built for CUDA {torch.version.cuda}, sees no GPU",)
        # A driver too old for this build, or a build without kernels for this GPU, shows only when something runs.
        matrix = torch.eye(2, dtype=torch.float64, device="cuda")
        torch.linalg.cholesky(matrix + matrix).sum().item()
    except (RuntimeError, AssertionError) as error:
        return (f"no CUDA device that works: {str(error).strip().partition(chr(10))[0] or type(error).__name__}",)
    return ()


@functools.cache
def cuda_devices() -> tuple[CudaDevice, ...]:
    """The GPUs that torch sees; none where CUDA cannot be used."""
    import torch

    if reasons_cuda_is_unusable():
        return ()
    found = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        found.append(CudaDevice(name=f"cuda:{index}", model=properties.name, memory_bytes=properties.total_memory))
    return tuple(found)


def current_cuda() -> str:
    import torch

    return f"cuda:{torch.cuda.current_device()}"


__all__ = ["CudaDevice", "cuda_devices", "current_cuda", "reasons_cuda_is_unusable"]
