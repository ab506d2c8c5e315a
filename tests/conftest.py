"""What all tests share: one thread, warnings as errors, and the devices that this machine has."""

import importlib
import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything loads OpenMP; two test processes share the cores
os.environ["GPU_GS_CALIBRATION"] = "off"  # fixed thresholds, and nothing written to the user's folder
os.environ["GPU_GS_TURNS"] = "off"  # tests wait for no benchmark, and none for them
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background; tests interrupt what they start
    signal.signal(signal.SIGINT, signal.default_int_handler)

import random
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# A busy machine is slow, not wrong.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

# Exceptions to "warnings are errors" (pyproject.toml): what others warn about and we cannot mend.
# Each with the date at which it was seen, and its reason.
TOLERATED_WARNINGS = (
    # 2026-11: linear_operator 0.6.1 compiles with torch.jit.script when imported; torch 2.13 deprecates it.
    "ignore:`torch.jit.script` is deprecated:DeprecationWarning",
    # 2026-11: Ax 1.3.1 calls what itself, pandas 3.1 (inplace, lsuffix, future.infer_string) and NumPy deprecate.
    r"ignore::DeprecationWarning:ax\.",
    # 2026-11: linear_operator 0.6.1 and GPyTorch 1.15.2 say that they added jitter, or raised a noise variance of zero.
    "ignore:A not p.d., added jitter",
    "ignore:Very small noise values detected",
    # 2026-11: torch 2.13, on the sparse tensors of GPyTorch's multi-task kernels.
    "ignore:Sparse invariant checks are implicitly disabled:UserWarning",
    # 2026-11: Ax 1.3.1, storage/sqa_store: its own column type says nothing about caching.
    "ignore:TypeDecorator JSONEncoded",
    # 2026-11: Ax 1.3.1, generators/torch/botorch_moo_utils.py, copies a tensor by torch.tensor.
    r"ignore:To copy construct from a tensor:UserWarning:ax\.",
    # 2026-11: Ax 1.3.1, transforms/winsorize.py: advice for users of several objectives; some tests give no thresholds.
    "ignore:Encountered a `MultiObjective` without objective thresholds",
)


def pytest_configure(config: pytest.Config) -> None:
    for line in TOLERATED_WARNINGS:
        config.addinivalue_line("filterwarnings", line)
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        # Workers hand warnings over (Ax's own tests let some pass), and to read one its module is imported here, where
        # what the import itself warns about would end the session.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for module in ("ax.api.client", "botorch"):
                importlib.import_module(module)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _ax_database() -> Iterator[None]:
    """Puts Ax's one database of the process back as it was."""
    name = "ax.storage.sqa_store.db"
    before = getattr(sys.modules.get(name), "SESSION_FACTORY", None)
    yield
    if name in sys.modules:
        sys.modules[name].SESSION_FACTORY = before


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest):
    """Runs a test on each device; on CUDA only where there is one."""
    import torch

    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)


@pytest.fixture
def random_state_untouched() -> Iterator[None]:
    """Fails the test if it leaves one of the process's random generators in another state."""
    import torch

    def states() -> tuple[object, ...]:
        legacy = np.random.get_state()
        return random.getstate(), legacy[1].tolist(), legacy[2:], torch.get_rng_state().tolist()

    before = states()
    yield
    for name, one, other in zip(("random", "numpy", "numpy", "torch"), before, states(), strict=True):
        assert one == other, f"{name}'s global generator was used"


@pytest.fixture
def repository() -> Path:
    """The root of the checkout; the test is skipped where the tests lie elsewhere."""
    root = Path(__file__).resolve().parent.parent
    if not (root / "pyproject.toml").exists():
        pytest.skip("not in a checkout")
    return root
