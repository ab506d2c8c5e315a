"""The device decision, its threads, and the way out when memory runs out."""

import json
import logging
import subprocess
import sys
import threading
from dataclasses import dataclass

import pytest
import scipy.linalg  # noqa: F401 - loads its BLAS, whose threads are counted here
import threadpoolctl

from gpu_gs.device import (
    CUDA_FROM_N,
    THREADS_FROM_N,
    CudaDevice,
    Decision,
    DevicePolicy,
    FallbackMemory,
    applied,
    available_cores,
    calibration,
    check,
    decide,
    describe,
    doctor,
    gpus,
    is_out_of_memory,
    measurement,
    ran_out_of_memory,
    reasons_against_cuda,
)
from gpu_gs.device import decision as decision_module
from gpu_gs.device import threads as threads_module
from gpu_gs.device.decision import EXACT_BUFFERS
from gpu_gs.errors import DeviceUnavailableError, GpuGsError

torch = pytest.importorskip("torch")

GIB = 2**30


def see(monkeypatch: pytest.MonkeyPatch, problems: tuple[str, ...], found: tuple[CudaDevice, ...]) -> None:
    """Makes the package see these GPUs."""
    for module in (gpus, decision_module, calibration, measurement, doctor):
        monkeypatch.setattr(module, "reasons_cuda_is_unusable", lambda: problems, raising=False)
        monkeypatch.setattr(module, "cuda_devices", lambda: found, raising=False)
        monkeypatch.setattr(module, "current_cuda", lambda: "cuda:1", raising=False)
    monkeypatch.setattr(decision_module, "_RAN_OUT", {})


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GPUs; none of these tests computes on them."""
    see(monkeypatch, (), (CudaDevice("cuda:0", "Big", 80 * GIB), CudaDevice("cuda:1", "Small", 8 * GIB)))


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    see(monkeypatch, ("no CUDA device: it was taken out",), ())


@dataclass
class Count:
    """Thread counts as the outside world reads them."""

    torch: int
    blas: list[int]

    @classmethod
    def now(cls) -> "Count":
        libraries = threadpoolctl.ThreadpoolController().lib_controllers
        return cls(torch.get_num_threads(), [lib.num_threads for lib in libraries if lib.user_api == "blas"])


# --------------------------------------------------------------------------------------------------- the decision


@pytest.mark.usefixtures("no_gpu")
def test_auto_takes_the_cpu_without_cuda_and_says_why():
    decision = decide(DevicePolicy(), n=10**6, d=6, num_outputs=1)
    assert (decision.device, decision.dtype) == ("cpu", "float64")
    assert decision.reasons == ("no CUDA device: it was taken out",)


@pytest.mark.usefixtures("two_gpus")
def test_auto_takes_the_current_gpu_from_the_threshold_on_counting_outputs():
    below, at = decide(DevicePolicy(), CUDA_FROM_N - 1, 6, 1), decide(DevicePolicy(), CUDA_FROM_N, 6, 1)
    assert (below.device, at.device) == ("cpu", "cuda:1")
    assert str(CUDA_FROM_N) in below.reasons[0]
    assert "not measured" in below.reasons[0]
    assert at.reasons == ()
    assert decide(DevicePolicy(), -(-CUDA_FROM_N // 2), 6, 2).device == "cuda:1"


def largest_that_fits(memory: int) -> int:
    """Rows of an exact model of one output and 6 parameters."""
    return int((memory / (8 * EXACT_BUFFERS)) ** 0.5) - 10


@pytest.mark.usefixtures("two_gpus")
def test_auto_takes_a_gpu_whose_memory_the_model_does_not_exceed():
    small, big = largest_that_fits(8 * GIB), largest_that_fits(80 * GIB)
    assert [decide(DevicePolicy(), n, 6, 1).device for n in (small, small + 20, big, big + 20)] == [
        *("cuda:1", "cuda:0", "cuda:0", "cpu")
    ]
    assert decide(DevicePolicy(), small, 6, 2).device == "cuda:0"
    assert reasons_against_cuda(big, 6, 1) == []
    assert "80.0 GiB" in reasons_against_cuda(big + 20, 6, 1)[0]
    assert "80.0 GiB" in decide(DevicePolicy(), big + 20, 6, 1).reasons[0]


@pytest.mark.usefixtures("two_gpus")
def test_auto_keeps_off_a_gpu_that_ran_out_of_memory_at_this_size():
    ran_out_of_memory("cuda:1", 5000, 6, 1)
    ran_out_of_memory("cuda:1", 9000, 6, 1)  # a larger one proves nothing new
    assert [decide(DevicePolicy(), n, 6, 1).device for n in (4999, 5000, 9000)] == ["cuda:1", "cuda:0", "cuda:0"]
    ran_out_of_memory("cuda:0", 9000, 6, 1)
    decision = decide(DevicePolicy(), 9000, 6, 1)
    assert decision.device == "cpu"
    assert decision.reasons == ("large problem: cuda:0 ran out of memory at this size or a smaller one",)
    assert decide(DevicePolicy(device="cuda:1"), 9000, 6, 1).device == "cuda:1"  # the user's word


@pytest.mark.usefixtures("two_gpus")
def test_a_demanded_device_is_taken_at_every_size():
    assert decide(DevicePolicy(device="cuda:0"), 1, 1, 1).device == "cuda:0"
    assert decide(DevicePolicy(device="cuda"), 1, 1, 1).device == "cuda:1"
    assert decide(DevicePolicy(device="cpu"), 10**6, 1, 1) == Decision("cpu", "float64", available_cores(), ())


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:1"])
def test_demanding_cuda_without_it_is_an_error_that_says_what_to_do(device):
    for refuse in (check, lambda policy: decide(policy, 10, 2, 1)):
        with pytest.raises(DeviceUnavailableError) as raised:
            refuse(DevicePolicy(device=device))
        assert isinstance(raised.value, GpuGsError)
        for part in (f"device: {device} was demanded", "it was taken out", "available: cpu", "device: auto"):
            assert part in str(raised.value)


@pytest.mark.usefixtures("two_gpus")
def test_demanding_a_gpu_out_of_range_lists_those_that_are_there():
    check(DevicePolicy(device="cuda:1"))
    with pytest.raises(DeviceUnavailableError) as raised:
        check(DevicePolicy(device="cuda:2"))
    assert "cpu, cuda:0 (Big), cuda:1 (Small)" in str(raised.value)


def test_cpu_and_auto_are_always_there():
    check(DevicePolicy(device="cpu"))
    check(DevicePolicy(device="auto"))


def test_the_reason_is_that_of_this_torch():
    reasons = gpus.reasons_cuda_is_unusable()
    if torch.cuda.is_available():
        assert reasons == ()
    else:
        assert len(reasons) == 1
        assert torch.__version__ in reasons[0]
        assert gpus.cuda_devices() == ()


def test_a_gpu_on_which_nothing_runs_counts_as_none(monkeypatch):
    def eye(*_args, **_kwargs):
        raise RuntimeError("CUDA error: no kernel image is available\nand two more lines")

    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch, "eye", eye)
    reasons = gpus.reasons_cuda_is_unusable.__wrapped__()
    assert reasons == ("no CUDA device that works: CUDA error: no kernel image is available",)


def test_each_reason_is_logged_once_whatever_n(two_gpus, caplog):
    decision_module._log_once.cache_clear()
    with caplog.at_level(logging.INFO, logger="gpu_gs"):
        for n in range(1, 50):
            decide(DevicePolicy(), n, 6, 1)
    assert [record.message for record in caplog.records] == [
        f"device: auto takes the CPU: small problem: rows x outputs below {CUDA_FROM_N} "
        "(a placeholder, not measured yet)"
    ]


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cuda:-1", "CUDA", "", "cpu "])
def test_a_policy_refuses_an_unknown_device(device):
    with pytest.raises(ValueError, match="allowed: auto, cpu, cuda, cuda:N"):
        DevicePolicy(device=device)


@pytest.mark.parametrize("threads", [0, -1, True, 1.0, "two"])
def test_a_policy_refuses_a_wrong_number_of_threads(threads):
    with pytest.raises(ValueError, match="at least 1"):
        DevicePolicy(threads=threads)


# -------------------------------------------------------------------------------------------------------- threads


@pytest.mark.usefixtures("no_gpu")
def test_a_small_problem_gets_one_thread_and_a_large_one_all_cores(monkeypatch):
    monkeypatch.setattr(decision_module, "available_cores", lambda: 12)
    policy = DevicePolicy(device="cpu")
    assert [decide(policy, n, 6, 1).threads for n in (1, THREADS_FROM_N - 1, THREADS_FROM_N)] == [1, 1, 12]
    assert decide(DevicePolicy(device="cpu", threads=3), 10**5, 6, 1).threads == 3


@pytest.mark.usefixtures("two_gpus")
def test_on_cuda_the_host_has_one_thread_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.setattr(decision_module, "available_cores", lambda: 12)
    assert decide(DevicePolicy(device="cuda"), 5000, 6, 1).threads == 1
    assert decide(DevicePolicy(device="cuda", threads=3), 5000, 6, 1).threads == 3


def test_the_cores_are_limited_by_the_cpu_set_the_container_and_the_environment(monkeypatch):
    monkeypatch.setattr(threads_module.os, "sched_getaffinity", lambda _pid: set(range(16)), raising=False)
    monkeypatch.setattr(threads_module, "_container_cores", lambda: None)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert available_cores() == 16
    monkeypatch.setattr(threads_module, "_container_cores", lambda: 6)
    assert available_cores() == 6
    for value, cores in (("4,2", 4), ("64", 6), ("0", 1), ("many", 6)):
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        assert available_cores() == cores


@pytest.mark.parametrize(
    ("text", "cores"), [("max 100000", None), ("150000 100000", 2), ("50000 100000", 1), ("", None)]
)
def test_the_container_quota_is_rounded_up(monkeypatch, text, cores):
    monkeypatch.setattr(threads_module.Path, "read_text", lambda *_args, **_kwargs: text)
    assert threads_module._container_cores.__wrapped__() == cores


@pytest.fixture(params=[1, 3])
def user_threads(request):
    """The user has chosen another number of threads, or has not."""
    with threadpoolctl.threadpool_limits(request.param):
        torch.set_num_threads(request.param)
        yield Count.now()
    torch.set_num_threads(1)


def test_counts_are_set_inside_and_restored_outside(user_threads):
    assert user_threads.blas, "this test needs a BLAS library"
    with applied(Decision("cpu", threads=2)):
        inside = Count.now()
    assert inside == Count(2, [2] * len(user_threads.blas))
    assert Count.now() == user_threads


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_counts_are_restored_after_an_exception(user_threads, error):
    with pytest.raises(error), applied(Decision("cpu", threads=2)):
        raise error
    assert Count.now() == user_threads


def test_the_mkl_inside_torch_is_set_and_restored_even_if_the_user_had_set_it(user_threads):
    def mkl() -> list[str]:
        return [line.strip() for line in torch.__config__.parallel_info().splitlines() if "mkl_get_max" in line]

    before = mkl()
    if not before:
        pytest.skip("torch is built without MKL")
    with applied(Decision("cpu", threads=2)):
        assert mkl() == ["mkl_get_max_threads() : 2"]
    assert mkl() == before


def test_nested_blocks_restore_each_others_counts(user_threads):
    with applied(Decision("cpu", threads=2)):
        with applied(Decision("cpu", threads=4)):
            assert Count.now() == Count(4, [4] * len(user_threads.blas))
            with applied(Decision("cpu", threads=4)):
                pass
            assert Count.now().torch == 4
        assert Count.now() == Count(2, [2] * len(user_threads.blas))
    assert Count.now() == user_threads


def test_two_threads_overlap_the_most_recent_entrant_holds_blas_and_all_is_restored(user_threads):
    inside: dict[str, list[Count]] = {"first": [], "second": []}
    outside: dict[str, Count] = {}
    first_in, second_in, first_out = (threading.Event() for _ in range(3))

    def first() -> None:
        with applied(Decision("cpu", threads=2)):
            inside["first"].append(Count.now())
            first_in.set()
            assert second_in.wait(30)
            inside["first"].append(Count.now())
        outside["first"] = Count.now()
        first_out.set()

    def second() -> None:
        assert first_in.wait(30)
        with applied(Decision("cpu", threads=5)):
            inside["second"].append(Count.now())
            second_in.set()
            assert first_out.wait(30)  # the one who came first has left: this one's count still holds
            inside["second"].append(Count.now())
        outside["second"] = Count.now()

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    libraries = len(user_threads.blas)
    assert inside["first"] == [Count(2, [2] * libraries), Count(2, [5] * libraries)]
    assert inside["second"] == [Count(5, [5] * libraries)] * 2
    assert outside["first"].torch == user_threads.torch
    assert outside["second"] == user_threads
    assert Count.now() == user_threads


def test_when_the_most_recent_leaves_the_earlier_ones_count_is_back(user_threads):
    libraries = len(user_threads.blas)
    with applied(Decision("cpu", threads=2)):

        def visit() -> None:
            with applied(Decision("cpu", threads=5)):
                pass

        visitor = threading.Thread(target=visit)
        visitor.start()
        visitor.join()
        assert Count.now() == Count(2, [2] * libraries)
    assert Count.now() == user_threads


def test_a_thread_that_starts_while_somebody_is_inside_keeps_the_users_count(user_threads):
    found: list[int] = []

    def work() -> None:
        found.append(torch.get_num_threads())

    with applied(Decision("cpu", threads=2)):
        worker = threading.Thread(target=work)
        worker.start()
        worker.join()
    assert found == [user_threads.torch]


def test_the_users_own_limits_work_in_any_thread_after_a_block_in_another(user_threads):
    def visit() -> None:
        with applied(Decision("cpu", threads=2)):
            pass
        visited.set()
        assert finished.wait(30)  # the thread that was inside is still alive

    visited, finished = threading.Event(), threading.Event()
    visitor = threading.Thread(target=visit)
    visitor.start()
    assert visited.wait(30)
    with threadpoolctl.threadpool_limits(4, user_api="blas"):
        limited = Count.now().blas
    finished.set()
    visitor.join()
    assert limited == [4] * len(user_threads.blas)


def test_many_threads_in_and_out_leave_the_counts_as_they_were(user_threads):
    def work(threads: int) -> None:
        for _ in range(50):
            with applied(Decision("cpu", threads=threads)), applied(Decision("cpu", threads=1)):
                pass

    workers = [threading.Thread(target=work, args=(count,)) for count in (1, 2, 3, 4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert Count.now() == user_threads


def test_all_blas_libraries_that_an_ask_uses_are_found_however_early_the_first_block_is():
    code = (
        "from gpu_gs.device import Decision, applied\n"
        "import threadpoolctl\n"
        "with applied(Decision('cpu', threads=1)):\n"
        "    import numpy, scipy.linalg, torch\n"
        "    found = threadpoolctl.threadpool_info()\n"
        "assert found and all(library['num_threads'] == 1 for library in found), found\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, env={"OMP_NUM_THREADS": "2"})


# -------------------------------------------------------------------------------------------------- out of memory


def chained(outer: Exception, inner: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate`"), True),
        (chained(ValueError("the fit failed"), torch.OutOfMemoryError("CUDA out of memory")), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("CUDA out of memory"), False),
        (MemoryError(), False),
        (None, False),
    ],
)
def test_out_of_memory_is_recognized(error, expected):
    assert is_out_of_memory(error) is expected


def test_out_of_memory_is_found_behind_an_error_raised_while_handling_it():
    def fail(hide: bool) -> None:
        try:
            raise torch.OutOfMemoryError("CUDA out of memory")
        except RuntimeError:
            if hide:
                raise KeyError("another") from None
            raise KeyError("another")  # noqa: B904 - the context is what is tested

    with pytest.raises(KeyError) as shown:
        fail(hide=False)
    with pytest.raises(KeyError) as hidden:
        fail(hide=True)
    assert is_out_of_memory(shown.value)
    assert not is_out_of_memory(hidden.value)


def test_out_of_memory_halves_the_memory_once_and_then_moves_to_the_cpu():
    error = torch.OutOfMemoryError("CUDA out of memory")
    first = FallbackMemory(Decision("cuda:0", threads=1, reasons=("before",)), 512)
    second = first.after(error)
    assert (second.decision.device, second.memory_mb) == ("cuda:0", 256)
    third = second.after(error)
    assert (third.decision.device, third.memory_mb) == ("cpu", 512)
    assert third.decision.reasons == (
        "before",
        "out of memory on cuda:0: tried again with half the memory for a batch",
        "out of memory on cuda:0: this ask ran on the CPU",
    )
    assert third.after(error) is None


def test_another_error_ends_the_attempts():
    assert FallbackMemory(Decision("cuda:0"), 512).after(ValueError("no")) is None
    assert FallbackMemory(Decision("cpu"), 512).after(torch.OutOfMemoryError("CUDA out of memory")) is None


def test_on_the_cpu_the_ask_gets_the_threads_that_it_would_have_there():
    error = torch.OutOfMemoryError("CUDA out of memory")
    first = FallbackMemory(Decision("cuda:0", threads=1), 512, threads_on_cpu=lambda: 12)
    second = first.after(error)
    assert (second.decision.device, second.decision.threads) == ("cuda:0", 1)
    third = second.after(error)
    assert (third.decision.device, third.decision.threads) == ("cpu", 12)


def test_memory_that_cannot_be_halved_goes_to_the_cpu_at_once():
    following = FallbackMemory(Decision("cuda:0"), 1).after(torch.OutOfMemoryError("CUDA out of memory"))
    assert (following.decision.device, following.memory_mb) == ("cpu", 1)


# --------------------------------------------------------------------------------------------------------- doctor


def test_the_doctor_tells_versions_threads_devices_and_choices_in_json():
    found = json.loads(json.dumps(describe(sizes=(10, THREADS_FROM_N), num_outputs=2)))
    assert found["versions"]["torch"] == torch.__version__
    assert found["cores"] == available_cores()
    counted = [library for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]
    assert sorted((library["library"], library["version"], library["threads"]) for library in found["blas"]) == sorted(
        (library["internal_api"], library["version"], library["num_threads"]) for library in counted
    )
    assert [(row["n"], row["outputs"]) for row in found["auto"]] == [(10, 2), (THREADS_FROM_N, 2)]
    for row in found["auto"]:
        decision = decide(DevicePolicy(), row["n"], 6, 2)
        assert (row["device"], row["threads"]) == (decision.device, decision.threads)
        assert row["remarks"][: len(decision.reasons)] == list(decision.reasons)
        assert (row["measured"], row["predictions"]) == (False, [])
    assert found["calibration"]["cpu"]["measured"] is None


@pytest.mark.usefixtures("two_gpus")
def test_the_doctor_shows_the_gpus_and_calls_a_placeholder_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: ((index + 1) * GIB, 0))
    found = describe(sizes=(10, CUDA_FROM_N))
    assert found["cuda"] == ["cuda:0 (Big, 1.0 of 80.0 GiB free)", "cuda:1 (Small, 2.0 of 8.0 GiB free)"]
    assert [row["device"] for row in found["auto"]] == ["cpu", "cuda:1"]
    assert [(change["n"], change["device"]) for change in found["crossovers"]] == [(1, "cpu"), (CUDA_FROM_N, "cuda:1")]
    assert "a placeholder, not measured" in found["auto"][-1]["remarks"][-1]
    assert set(found["calibration"]) == {"cpu", "cuda:0", "cuda:1"}
