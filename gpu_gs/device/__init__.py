"""Where an ask runs: device and threads are one decision, with its reasons, taken from a policy that names no machine.

    decide(policy, n, d, num_outputs) -> Decision(device, dtype, threads, reasons)
    with applied(decision): ...                       threads set, and restored whatever happens
    FallbackMemory(decision, memory_mb).after(error)  half the memory, then the CPU

``auto`` rests on a short calibration of this machine (``calibration``) and a model of an ask (``costs``). Importing this
package imports no torch; calling it does.
"""

from gpu_gs.device.decision import (
    CUDA_FROM_N,
    THREADS_FROM_N,
    check,
    crossovers,
    decide,
    places,
    prepare,
    ran_out_of_memory,
    reasons_against_cuda,
)
from gpu_gs.device.doctor import describe
from gpu_gs.device.gpus import CudaDevice, cuda_devices, reasons_cuda_is_unusable
from gpu_gs.device.memory import FallbackMemory, is_out_of_memory
from gpu_gs.device.policy import ALLOWED_DEVICES, DEVICE_PATTERN, Decision, DevicePolicy
from gpu_gs.device.threads import applied, available_cores, cores_of_process

__all__ = [
    "ALLOWED_DEVICES",
    "CUDA_FROM_N",
    "DEVICE_PATTERN",
    "THREADS_FROM_N",
    "CudaDevice",
    "Decision",
    "DevicePolicy",
    "FallbackMemory",
    "applied",
    "available_cores",
    "check",
    "cores_of_process",
    "crossovers",
    "cuda_devices",
    "decide",
    "describe",
    "is_out_of_memory",
    "places",
    "prepare",
    "ran_out_of_memory",
    "reasons_against_cuda",
    "reasons_cuda_is_unusable",
]
