"""The emulation of CUDA counts what waits, and nothing else; each operation as torch's sync debug mode has it."""

import pytest
import torch

from tests.fresh_process import last_line_of

pytestmark = pytest.mark.skipif(
    not hasattr(torch.utils.backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch has no devices written in Python",
)

COUNTS = """
import torch
from gpu_gs.transfer import on_host, read, to_device
from tests.emulated_cuda import DEVICE, DeviceTensor, EmulatedCuda

with EmulatedCuda() as cuda:
    x = torch.arange(12.0, dtype=torch.double, device=DEVICE).reshape(4, 3)
    one = torch.tensor(2, device=DEVICE)
    mask, here = x > 5, torch.ones(4, 3, dtype=torch.double)
    brought = to_device(torch.ones(2, dtype=torch.double), DEVICE)

    def same_device():
        try:
            x + here
        except RuntimeError as error:
            assert "same device" in str(error)
        else:
            raise AssertionError("a tensor of the host was added to one of the device")

    def in_place():
        y = torch.zeros(3, device=DEVICE)
        assert y.add_(1) is y and y[1:].mul_(3) is not y
        assert y.tolist() == [1.0, 3.0, 3.0]

    for count, name, function in [
        (1, "item", lambda: x.sum().item()), (1, "float", lambda: float(x[0, 0])), (1, "bool", lambda: bool(mask.any())),
        (1, "int", lambda: int(one)), (1, "index by a number there", lambda: x[one]), (1, "tolist", lambda: x.tolist()),
        (1, "cpu", lambda: x.cpu()), (1, "to", lambda: x.to("cpu")), (1, "equal", lambda: torch.equal(x, x + 1)),
        (0, "equal of two shapes", lambda: torch.equal(x, x[:2])), (1, "allclose", lambda: torch.allclose(x, x)),
        (1, "nonzero", lambda: x.nonzero()), (1, "where", lambda: torch.where(mask)), (1, "mask", lambda: x[mask]),
        (1, "unique", lambda: x.unique()), (1, "masked_select", lambda: torch.masked_select(x, mask)),
        (1, "list as index", lambda: x[:, [0, 2]]), (1, "tensor", lambda: torch.tensor([1.0], device=DEVICE)),
        (1, "new_tensor", lambda: x.new_tensor(3.0)), (1, "brought", lambda: here.to(DEVICE)),
        (1, "cholesky", lambda: torch.linalg.cholesky(x.T @ x + torch.eye(3, dtype=x.dtype, device=DEVICE))),
        (0, "cholesky_ex", lambda: torch.linalg.cholesky_ex(x.T @ x)), (0, "arithmetic", lambda: (x * 2 + 1).amax(-1)),
        (0, "where of three", lambda: torch.where(mask, x, 0.0)), (0, "number set", lambda: x[0].fill_(1.0)),
        (0, "number put by index", lambda: x.__setitem__(torch.zeros(1, dtype=torch.long, device=DEVICE), 1.0)),
        (0, "full", lambda: x.new_full((), 3.0)),
        (0, "index there", lambda: x[torch.zeros(2, dtype=torch.long, device=DEVICE)]), (0, "slice", lambda: x[1:, 0]),
        (0, "pinned", lambda: to_device(here.clone(), DEVICE)), (0, "remembered", lambda: on_host(brought)),
        (1, "changed in place", lambda: on_host(brought.add_(1))), (1, "several", lambda: read([x, mask, one])),
        (0, "random", lambda: torch.rand(2, device=DEVICE, generator=torch.Generator(device=DEVICE))),
        (0, "two devices", same_device), (1, "in place", in_place),
    ]:
        cuda.start()
        function()
        assert len(cuda.waits) == count, (name, cuda.table())
    assert x.is_cuda and isinstance(x, DeviceTensor) and not isinstance(x.cpu(), DeviceTensor)
    assert on_host(brought).tolist() == [2.0, 2.0]
    cuda.start()
    torch.cuda.synchronize()
    assert (cuda.borders, cuda.waits) == (1, [])
print("counted")
"""


def test_each_operation_is_counted_as_often_as_it_waits():
    assert last_line_of("-c", COUNTS) == "counted"
