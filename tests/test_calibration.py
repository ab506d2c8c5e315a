"""The calibration of a machine, the prediction of an ask's time, and the decisions that rest on them."""

import itertools
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import threadpoolctl
from hypothesis import given
from hypothesis import strategies as st

from gpu_gs.device import (
    DevicePolicy,
    calibration,
    costs,
    crossovers,
    decide,
    describe,
    doctor,
    measurement,
    places,
    prepare,
)
from gpu_gs.device import decision as decision_module
from gpu_gs.device.calibration import Calibration, calibrate, calibrated, digest_of, file_of, key_of, load
from gpu_gs.device.costs import Costs, Workload, at, cheapest
from gpu_gs.device.gpus import CudaDevice
from tests.test_device import GIB, see

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A machine of two cores without GPUs that nobody has calibrated, its cache in an empty folder.

    Its measurements are made up, each another one: real ones take seconds where other tests run beside.
    """
    count = itertools.count(1)

    def made_up(device: str, key: dict[str, str]) -> Calibration:
        scale = 1e-4 * next(count)
        found = tuple(curves(scale, 100.0, threads) for threads in ((1, 2) if device == "cpu" else (1,)))
        return Calibration(key=key, measured=time.time(), took=1.0, load=0.0, operation=scale, places=found)

    monkeypatch.setattr(calibration, "measure", made_up)
    monkeypatch.setenv(calibration.SWITCH, "on")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(calibration, "_KNOWN", {})
    for module in (calibration, measurement, decision_module, doctor):
        monkeypatch.setattr(module, "available_cores", lambda: 2)
    calibration._key.cache_clear()
    see(monkeypatch, ("no CUDA device: it was taken out",), ())
    yield tmp_path / "cache"
    calibration._key.cache_clear()


def curves(scale: float, slope: float = 1.0, threads: int = 1) -> Costs:
    """Costs of ``scale`` at n = 100 and ``slope`` times that at n = 1000."""
    pair = (scale, scale * slope)
    return Costs(threads=threads, sizes=(100, 1000), fit=pair, factor=pair, score=pair, step=pair, multiply_add=1e-15)


def known(monkeypatch: pytest.MonkeyPatch, **by_device: tuple[Costs, ...]) -> None:
    """Makes these the calibrations of the devices; ``cuda0`` is ``cuda:0``."""
    for name, found in by_device.items():
        key = key_of(name.replace("cuda", "cuda:"))
        calibration._KNOWN[digest_of(key)] = Calibration(
            key=key, measured=0.0, took=0.0, load=0.0, operation=1e-9, places=found
        )


# -------------------------------------------------------------------------------------------------- the cost model


def test_the_prediction_is_the_formula_of_the_notation():
    found = Costs(
        threads=1,
        sizes=(10, 40),
        fit=(1.0, 16.0),
        factor=(2.0, 8.0),
        score=(3.0, 3.0),
        step=(5.0, 5.0),
        multiply_add=1e-3,
        read=0.25,
        byte=1e-2,
    )
    work = Workload(
        evaluations_per_hyperparameter=2.0, factorizations=3.0, raw_samples=512.0, acquisition_steps=7.0, reads=4.0
    )
    n, d, m = 20, 10, 3
    evaluation = 4.0 + 2 * n**2 * (d - costs.MEASURED_PARAMETERS) * 1e-3  # between 1 and 16 on a line of slope 2
    expected = m * (2.0 * (d + 2) * evaluation + 3.0 * 4.0 + 512 / costs.SCORED_SAMPLES * 3.0 + 7.0 * 5.0)
    expected += 4.0 * 0.25 + 8 * n * (d + m) * 1e-2
    assert found.seconds(n, d, m, work) == pytest.approx(expected)
    assert costs.host_seconds(1e-3, 20, Workload(host_operations=5.0, host_operations_per_row=2.0)) == pytest.approx(
        0.045
    )


def test_a_curve_is_constant_below_a_power_between_and_grows_within_limits_beyond():
    sizes, constant = (10, 100, 1000), 1.0

    def curve(exponent: float) -> tuple[float, ...]:
        """Launching operations takes 1 second; what is computed takes (n / 100) ** exponent, and nothing at n = 10."""
        return (constant, constant + 1.0, constant + 10.0**exponent)

    assert at(sizes, curve(2.5), 3, growth=(2, 3)) == 1.0
    assert at(sizes, curve(2.5), 100, growth=(2, 3)) == pytest.approx(2.0)
    assert at((10, 40), (1.0, 16.0), 20, growth=(2, 3)) == pytest.approx(4.0)
    assert at(sizes, curve(2.5), 5000, growth=(2, 3)) == pytest.approx(constant + 50**2.5)
    assert at(sizes, curve(1.0), 2000, growth=(2, 3)) == pytest.approx(constant + 10.0 * 2**2)
    assert at(sizes, curve(4.0), 2000, growth=(2, 3)) == pytest.approx(constant + 1e4 * 2**3)
    assert at(sizes, (1.0, 1.0, 1.0), 9000, growth=(2, 3)) == 1.0  # nothing but launches
    assert at((10,), (1.0,), 20, growth=(2, 3)) == pytest.approx(8.0)


@given(
    st.lists(st.floats(1e-5, 10.0), min_size=4, max_size=4),
    st.lists(st.floats(0.1, 100.0), min_size=3, max_size=3),
    st.integers(1, 20_000),
    st.integers(costs.MEASURED_PARAMETERS, 100),
    st.integers(1, 5),
)
def test_a_prediction_grows_with_rows_parameters_and_outputs(starts, factors, n, d, m):
    grown = [[start] for start in starts]
    for factor in factors:
        for curve in grown:
            curve.append(curve[-1] * max(factor, 1.0))
    fit, factor_curve, score, step = map(tuple, grown)
    found = Costs(
        threads=1,
        sizes=(64, 256, 1024, 2048),
        fit=fit,
        factor=factor_curve,
        score=score,
        step=step,
        multiply_add=1e-12,
    )
    here = found.seconds(n, d, m, Workload())
    assert here > 0
    larger = ((n + 1, d, m), (n, d + 1, m), (n, d, m + 1))
    assert all(found.seconds(*size, Workload()) >= here * (1 - 1e-9) for size in larger)


@pytest.mark.parametrize(
    ("predictions", "index"), [([1.0], 0), ([1.0, 0.95], 0), ([1.0, 0.85], 1), ([2.0, 1.05, 1.0], 1), ([1.0, 2.0], 0)]
)
def test_a_later_place_must_be_faster_by_the_margin(predictions, index):
    assert cheapest(predictions) == index


# ---------------------------------------------------------------------------------------------------- the decision


def test_auto_takes_the_threads_with_the_smallest_prediction_at_each_n(monkeypatch):
    known(monkeypatch, cpu=(curves(1e-3, 100.0, 1), curves(2e-3, 25.0, 2)))
    policy = DevicePolicy()
    for n in (10, 100, 300, 1000, 5000):
        found = places(policy, n, 6, 1)
        assert [place.threads for place in found] == [1, 2]
        assert decide(policy, n, 6, 1).threads == found[cheapest([place.seconds for place in found])].threads
    assert [decide(policy, n, 6, 1).threads for n in (100, 1000)] == [1, 2]
    assert decide(DevicePolicy(threads=7), 1000, 6, 1).threads == 7
    (only_change,) = crossovers(policy, 6, 1)[1:]
    assert decide(policy, only_change[0] - 1, 6, 1).threads == 1
    assert decide(policy, only_change[0], 6, 1).threads == 2


def test_auto_takes_the_gpu_that_is_predicted_fastest_and_the_current_one_among_equals(monkeypatch):
    gpus = tuple(CudaDevice(f"cuda:{k}", f"Model {k}", 80 * GIB) for k in range(3))
    see(monkeypatch, (), gpus)  # cuda:1 is the current one
    known(monkeypatch, cpu=(curves(1e-3, 1e3, 1), curves(2e-3, 500.0, 2)))
    known(monkeypatch, cuda0=(curves(1e-2, 1.0),), cuda1=(curves(1e-2, 1.05),), cuda2=(curves(1e-2, 2.0),))
    assert decide(DevicePolicy(), 100, 6, 1).device == "cpu"
    assert "measured on this machine" in decide(DevicePolicy(), 100, 6, 1).reasons[0]
    at_1000 = decide(DevicePolicy(), 1000, 6, 1)
    assert (at_1000.device, at_1000.threads, at_1000.reasons) == ("cuda:1", 1, ())
    known(monkeypatch, cuda0=(curves(1e-3, 1.0),))
    assert decide(DevicePolicy(), 1000, 6, 1).device == "cuda:0"
    assert decide(DevicePolicy(device="cpu"), 1000, 6, 1).device == "cpu"


def test_two_gpus_of_one_model_share_a_calibration(monkeypatch):
    see(monkeypatch, (), tuple(CudaDevice(f"cuda:{k}", "The same", 80 * GIB) for k in range(2)))
    assert key_of("cuda:0") == key_of("cuda:1")
    assert key_of("cuda:0") != key_of("cpu")


@pytest.mark.parametrize(
    "policy",
    [DevicePolicy(threads=1), DevicePolicy(device="cpu", threads=2)],
    ids=["threads fixed, no GPU", "both fixed"],
)
def test_nothing_is_measured_where_there_is_nothing_to_choose(monkeypatch, policy):
    monkeypatch.setattr(calibration, "measure", lambda *_: pytest.fail("it measured"))
    prepare(policy)
    decide(policy, 2000, 6, 1)


def test_nothing_is_measured_on_one_core_without_gpu(monkeypatch):
    for module in (calibration, measurement, decision_module):
        monkeypatch.setattr(module, "available_cores", lambda: 1)
    monkeypatch.setattr(calibration, "measure", lambda *_: pytest.fail("it measured"))
    assert decide(DevicePolicy(), 2000, 6, 1).threads == 1


def test_a_cpu_policy_never_looks_for_a_gpu(monkeypatch):
    for module in (calibration, measurement, decision_module):
        for name in ("cuda_devices", "reasons_cuda_is_unusable"):
            monkeypatch.setattr(module, name, lambda: pytest.fail("it looked"), raising=False)
    assert decide(DevicePolicy(device="cpu"), 100, 6, 1).device == "cpu"


@pytest.mark.parametrize("value", ["off", "OFF", "0", "no", "false"])
def test_switched_off_the_constants_decide(monkeypatch, value):
    monkeypatch.setenv(calibration.SWITCH, value)
    monkeypatch.setattr(calibration, "measure", lambda *_: pytest.fail("it measured"))
    sizes = (1, decision_module.THREADS_FROM_N)
    assert [decide(DevicePolicy(), n, 6, 1).threads for n in sizes] == [1, 2]
    assert "is off" in calibration.problem_of("cpu")


def test_a_calibration_that_fails_is_said_once_and_the_constants_decide(monkeypatch, caplog):
    def measure(*_args):
        raise RuntimeError("no such luck")

    monkeypatch.setattr(calibration, "measure", measure)
    with caplog.at_level(logging.INFO, logger="gpu_gs"):
        sizes = (1, decision_module.THREADS_FROM_N)
        assert [decide(DevicePolicy(), n, 6, 1).threads for n in sizes] == [1, 2]
    assert len([record for record in caplog.records if "no such luck" in record.getMessage()]) == 1
    assert "no such luck" in calibration.problem_of("cpu")
    assert "no such luck" in describe(sizes=(10,))["calibration"]["cpu"]["problem"]
    assert "no such luck" in describe(sizes=(10,), recalibrate=True)["calibration"]["cpu"]["problem"]


def test_if_only_the_gpu_s_calibration_fails_the_constants_decide_too(monkeypatch):
    see(monkeypatch, (), (CudaDevice("cuda:1", "Broken", 80 * GIB),))
    known(monkeypatch, cpu=(curves(1e-9, 1.0, 1),))
    calibration._KNOWN[digest_of(key_of("cuda:1"))] = "it failed"
    sizes = (1, decision_module.CUDA_FROM_N)
    assert [decide(DevicePolicy(), n, 6, 1).device for n in sizes] == ["cpu", "cuda:1"]


# ------------------------------------------------------------------------------------------------- the measurement


def test_a_measurement_covers_the_thread_counts_and_leaves_the_process_as_it_was(random_state_untouched, monkeypatch):
    monkeypatch.setattr(measurement, "CPU_SIZES", (8, 16))
    monkeypatch.setattr(measurement, "ROUNDS", 2)
    monkeypatch.setattr(measurement, "HOPELESS", float("inf"))  # other tests may be running beside

    def state():
        counts = sorted((lib["filepath"], lib["num_threads"]) for lib in threadpoolctl.threadpool_info())
        modes = (torch.is_grad_enabled(), torch.get_default_device(), torch.get_default_dtype())
        return torch.get_num_threads(), counts, modes

    torch.set_default_dtype(torch.float16)
    try:
        with torch.inference_mode():
            before = state()
            found = measurement.measure("cpu", key_of("cpu"))
            assert state() == before
    finally:
        torch.set_default_dtype(torch.float32)
    assert [place.threads for place in found.places] == [1, 2]
    assert [place.sizes for place in found.places] == [(8, 16)] * 2
    assert 0 < found.took < 30
    assert all(place.read == place.byte == 0 for place in found.places)


def test_on_a_gpu_only_what_fits_its_memory_well_is_measured(monkeypatch):
    gpus = (CudaDevice("cuda:0", "Large", 16 * GIB), CudaDevice("cuda:1", "Small", 2 * GIB))
    see(monkeypatch, (), gpus)
    assert measurement._sizes("cuda:0") == measurement.CUDA_SIZES
    assert measurement._sizes("cuda:1") == measurement.CUDA_SIZES[:-1]


def test_the_thread_counts_are_powers_of_two_and_all_cores():
    assert [measurement.thread_counts(cores) for cores in (1, 2, 6, 8)] == [(1,), (1, 2), (1, 2, 4, 6), (1, 2, 4, 8)]


def test_a_number_of_threads_that_is_far_behind_does_not_use_up_the_time(monkeypatch):
    timed: list[tuple[int, int]] = []

    def rounds(probe, counts, deadline, cold):
        timed.extend((len(probe.X), threads) for threads in counts)
        return {
            threads: dict.fromkeys((*measurement.BLOCKS, "product"), 1e-4 if threads == 1 else 100.0)
            for threads in counts
        }

    monkeypatch.setattr(measurement, "_shortest_of_rounds", rounds)
    found = measurement._places("cpu", (1, 2), (8, 16, 32), time.perf_counter() + 10)
    assert timed == [(8, 1), (8, 2), (16, 1), (32, 1)]
    assert [place.sizes for place in found] == [(8, 16, 32), (8,)]
    timed.clear()
    measurement._places("cpu", (1, 2), (8, 16), time.perf_counter() + 10_000)  # there is time enough
    assert timed == [(8, 1), (8, 2), (16, 1), (16, 2)]


def test_noise_does_not_make_a_larger_problem_cheaper(monkeypatch):
    seconds = iter([3.0, 2.0, 5.0])
    monkeypatch.setattr(
        measurement,
        "_shortest_of_rounds",
        lambda probe, counts, deadline, cold: {1: dict.fromkeys((*measurement.BLOCKS, "product"), next(seconds))},
    )
    (found,) = measurement._places("cpu", (1,), (8, 16, 32), time.perf_counter() + 10)
    assert found.fit == (3.0, 3.0, 5.0)


def test_the_blocks_run_on_each_device(device):
    probe = measurement.Probe(12, str(device))
    probe.warm_up()
    assert all(probe.seconds(block) > 0 for block in measurement.BLOCKS)
    read, byte = probe.transfer()
    assert read > 0 and byte > 0


def test_the_fit_block_computes_what_a_fit_does():
    """Its inverse, before it is contracted, against a dense one: the arithmetic that is timed is the real one."""
    probe = measurement.Probe(12, "cpu")
    q = ((probe.X[:, None] - probe.X) ** 2).sum(-1)
    K = torch.exp(-q / 2) + 0.1 * torch.eye(12, dtype=torch.float64)
    assert torch.allclose(probe.K, K)
    probe.fit()
    inverse, a = torch.linalg.inv(K), torch.linalg.solve(K, probe.y)
    assert torch.allclose(probe.buffers[0], (inverse - a @ a.T) * torch.exp(-q / 2))


# -------------------------------------------------------------------------------------------------------- its file


def test_it_is_measured_once_logged_once_and_found_again_by_the_next_process(monkeypatch, machine, caplog):
    with caplog.at_level(logging.INFO, logger="gpu_gs"):
        first = calibrated("cpu")
        assert calibrated("cpu") is first
    messages = [record.getMessage() for record in caplog.records]
    assert [message for message in messages if message.startswith("Calibrating this machine's cpu")] == messages[:1]
    path = file_of(key_of("cpu"))
    assert f"cached in {path}" in messages[0]
    assert path.parent == machine / "gpu_gs"
    monkeypatch.setattr(calibration, "_KNOWN", {})  # a new process
    monkeypatch.setattr(calibration, "measure", lambda *_: pytest.fail("it measured again"))
    assert calibrated("cpu") == first


def test_decisions_do_not_change_within_a_process_when_the_file_does(monkeypatch):
    known(monkeypatch, cpu=(curves(1e-3, 10.0, 1), curves(2e-3, 1.0, 2)))
    before = [decide(DevicePolicy(), n, 6, 1) for n in (50, 500, 5000)]
    path = file_of(key_of("cpu"))
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    assert [decide(DevicePolicy(), n, 6, 1) for n in (50, 500, 5000)] == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: "[1, 2]",
        lambda text: text.replace('"threads": 1', '"threads": 0'),
        lambda text: text.replace('"fit"', '"fits"'),
        lambda text: json.dumps({**json.loads(text), "places": []}),
        lambda text: json.dumps({**json.loads(text), "operation": -1.0}),
        lambda text: json.dumps({**json.loads(text), "key": {**json.loads(text)["key"], "torch": "1.0"}}),
        lambda text: "\x00\xff",
    ],
)
def test_a_damaged_or_foreign_file_is_measured_anew(monkeypatch, damage):
    first = calibrated("cpu")
    path = file_of(key_of("cpu"))
    path.write_text(damage(path.read_text()))
    assert load(path, key_of("cpu")) is None
    monkeypatch.setattr(calibration, "_KNOWN", {})
    again = calibrated("cpu")
    assert again is not None and again != first
    assert load(path, key_of("cpu")) == again


@pytest.mark.parametrize("part", ["torch", "gpu-gs", "python", "format", "host", "cpu", "cores"])
def test_another_version_or_machine_has_another_file(part):
    key = key_of("cpu")
    assert part in key
    assert file_of({**key, part: "another"}) != file_of(key)


def test_a_measurement_of_a_busy_machine_lasts_a_day(monkeypatch):
    key, path = key_of("cpu"), file_of(key_of("cpu"))
    path.parent.mkdir(parents=True)
    now = time.time()
    for load_average, age, expected in ((0.1, 30 * 86400, True), (3.0, 3600, True), (3.0, 90_000, False)):
        found = Calibration(
            key=key, measured=now - age, took=1.0, load=load_average, operation=1e-6, places=(curves(1.0),)
        )
        path.write_text(found.model_dump_json())
        assert (load(path, key) == found) is expected


def test_a_home_that_cannot_be_written_works_without_a_cache_and_says_so_once(monkeypatch, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # not even root can make a folder in a file
    with caplog.at_level(logging.INFO, logger="gpu_gs"):
        assert calibrated("cpu") is not None
        assert calibrated("cpu") is not None
    (message,) = [record.getMessage() for record in caplog.records]
    assert "not cached" in message


def test_recalibrating_replaces_what_was_known_and_the_file(monkeypatch):
    first = calibrated("cpu")
    again = calibrate("cpu")
    assert again != first
    assert calibrated("cpu") is again
    assert load(file_of(key_of("cpu")), key_of("cpu")) == again
    assert [path.suffix for path in sorted(file_of(key_of("cpu")).parent.iterdir())] == [".json", ".lock"]


def test_threads_that_ask_at_once_measure_once(monkeypatch):
    measured: list[int] = []
    real = calibration.measure

    def measure(device, key):
        measured.append(1)
        time.sleep(0.05)
        return real(device, key)

    monkeypatch.setattr(calibration, "measure", measure)
    answers: list[Calibration | None] = []
    threads = [threading.Thread(target=lambda: answers.append(calibrated("cpu"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(measured) == 1
    assert answers == [answers[0]] * 4


@pytest.mark.skipif(sys.platform == "win32", reason="no flock there")
def test_processes_that_start_at_once_measure_once(tmp_path):
    code = (
        "import time\n"
        "from gpu_gs.device import calibration as c\n"
        "from gpu_gs.device.costs import Costs\n"
        "def measure(device, key):\n"
        "    print('measured', flush=True)\n"
        "    time.sleep(1.0)\n"
        "    one = (1.0,)\n"
        "    costs = Costs(threads=1, sizes=(1,), fit=one, factor=one, score=one, step=one, multiply_add=1.0)\n"
        "    return c.Calibration(\n"
        "        key=key, measured=time.time(), took=1.0, load=None, operation=1.0, places=(costs,)\n"
        "    )\n"
        "c.measure = measure\n"
        "print(c.calibrated('cpu').measured)\n"
    )
    environment = {**os.environ, calibration.SWITCH: "on", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    lines = [line for process in running for line in process.communicate(timeout=120)[0].splitlines()]
    assert lines.count("measured") == 1
    assert len({line for line in lines if line != "measured"}) == 1


# ------------------------------------------------------------------------------------------------- doctor and runs


def test_the_doctor_predicts_for_each_place_and_says_where_the_choice_changes(monkeypatch):
    known(monkeypatch, cpu=(curves(1e-3, 100.0, 1), curves(2e-3, 25.0, 2)))
    found = json.loads(json.dumps(describe(sizes=(100, 1000), d=20, num_outputs=2)))
    assert [(row["n"], row["threads"], row["measured"]) for row in found["auto"]] == [(100, 1, True), (1000, 2, True)]
    for row in found["auto"]:
        expected = places(DevicePolicy(), row["n"], 20, 2)
        assert [place["seconds"] for place in row["predictions"]] == [place.seconds for place in expected]
    assert [change["threads"] for change in found["crossovers"]] == [1, 2]
    assert found["calibration"]["cpu"]["file"] == str(file_of(key_of("cpu")))
    again = describe(sizes=(100,), recalibrate=True)
    assert again["calibration"]["cpu"]["measured"] > found["calibration"]["cpu"]["measured"]


def test_a_run_pins_what_holds_from_its_first_trial_to_its_last(monkeypatch):
    from gpu_gs.run.experiment import pinned
    from tests.run.helpers import task

    known(monkeypatch, cpu=(curves(1e-3, 100.0, 1), curves(2e-3, 25.0, 2)))
    change = crossovers(DevicePolicy(), 2, 1)[1][0]
    short, remarks = pinned(task(trials=change - 1))
    assert (short.strategy.device, short.strategy.threads, remarks) == ("cpu", 1, [])
    long, remarks = pinned(task(trials=change))
    assert (long.strategy.device, long.strategy.threads) == ("cpu", "auto")
    assert remarks == ["strategy.threads stays auto: it goes from 1 to 2 within the run"]


def test_a_calibration_is_no_part_of_an_ask_s_time(monkeypatch):
    from gpu_gs import GPUGenerationStrategy, timings
    from gpu_gs.plugin import strategy as strategy_module
    from tests.plugin.helpers import QUICK, advance, make_client

    waited = 0.0

    def measure(device: str, key: dict[str, str]) -> Calibration:
        nonlocal waited
        waited += 1000.0
        return made_up(device, key)

    class Clock:
        @staticmethod
        def perf_counter() -> float:
            return time.perf_counter() + waited

    made_up = calibration.measure
    monkeypatch.setattr(calibration, "measure", measure)
    monkeypatch.setattr(strategy_module, "time", Clock)
    client = make_client(GPUGenerationStrategy.from_config("fast", seed=0, **QUICK))
    advance(client, 7)
    assert waited == 1000.0
    assert "MBM" in set(timings(client)["node"])
    assert (timings(client)["total"] < 500).all()
