"""Seeds that are pure functions, and a process that is left as it was."""

import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_gs.rng import derive_seed, fresh_seed, guest, isolated

torch = pytest.importorskip("torch")


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


@pytest.mark.parametrize(
    ("arguments", "seed"),
    [
        ((0, 0, 0, 0), 3_960_409_847_383_706_243),
        ((1, 2, 3, 4), 8_449_548_067_815_428_501),
        ((2**53 - 1, 5000, 15, 5), 1_520_396_856_800_904_934),
        ((2**63 - 1, 2**32, 0, 0), 8_893_520_956_821_743_276),
    ],
)
def test_a_derived_seed_never_changes(arguments, seed):
    assert derive_seed(*arguments) == seed


NUMBERS = st.integers(min_value=0, max_value=2**70)


@given(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS), st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS))
def test_derived_seeds_have_63_bits_and_differ_where_the_arguments_do(one, other):
    assert 0 <= derive_seed(*one) < 2**63
    assert (derive_seed(*one) == derive_seed(*other)) == (one == other)


def test_neighbouring_asks_candidates_and_attempts_get_seeds_of_their_own():
    seeds = {derive_seed(s, a, c, t) for s in range(6) for a in range(6) for c in range(6) for t in range(6)}
    assert len(seeds) == 6**4


def test_numbers_of_several_words_are_not_confused_with_several_numbers():
    assert derive_seed(2**32, 0, 0, 0) != derive_seed(0, 1, 0, 0)
    assert derive_seed(5, 0, 0, 0) != derive_seed(0, 5, 0, 0)


def test_a_negative_number_is_refused():
    with pytest.raises(ValueError, match="-1"):
        derive_seed(0, -1, 0, 0)


def test_fresh_seeds_differ_and_survive_a_reader_of_json_with_doubles():
    seeds = [fresh_seed() for _ in range(200)]
    assert len(set(seeds)) == 200
    assert all(int(json.loads(json.dumps(seed), parse_int=float)) == seed for seed in seeds)


@pytest.mark.usefixtures("random_state_untouched")
def test_a_block_draws_the_same_numbers_from_the_same_seed_and_leaves_no_trace():
    def inside(seed: int) -> tuple[float, float, float]:
        with isolated(seed):
            return draws()

    assert inside(7) == inside(7)
    assert all(one != other for one, other in zip(inside(7), inside(8), strict=True))
    assert all(one != other for one, other in zip(inside(7), inside(7 + 2**32), strict=True)), "high bits are lost"


@pytest.mark.usefixtures("random_state_untouched")
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_random_states_are_restored_after_an_exception(error):
    with pytest.raises(error), isolated(3):
        draws()
        raise error


@pytest.mark.usefixtures("random_state_untouched")
def test_isolation_nests():
    with isolated(1):
        first = draws()
        with isolated(2):
            draws()
        second = draws()
    with isolated(1):
        assert (draws(), draws()) == (first, second)


@pytest.mark.usefixtures("random_state_untouched")
def test_even_the_users_next_numbers_are_what_they_would_have_been():
    with isolated(11):  # stands for the user's process
        expected = [draws() for _ in range(3)]
    with isolated(11):
        found = [draws()]
        with isolated(5):
            np.random.standard_normal()  # leaves a second normal in the generator's cache
            torch.randn(7)
        found += [draws(), draws()]
    assert found == expected


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_generator_of_a_gpu_is_seeded_and_restored():
    device = torch.device("cuda", 0)
    before = torch.cuda.get_rng_state(device)
    with isolated(3, cuda_device="cuda:0"):
        one = torch.rand(5, device=device)
    with isolated(3):
        other = torch.rand(5, device=device)
    assert torch.equal(one, other)
    assert torch.equal(torch.cuda.get_rng_state(device), before)


@pytest.fixture
def ordinary_modes():
    """Puts torch's modes back, should a test fail half way."""
    yield
    torch.set_grad_enabled(True)
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("ordinary_modes")
def test_a_guest_works_in_ordinary_modes_and_the_user_gets_theirs_back():
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    with guest():
        weight = torch.ones(2, requires_grad=True)
        assert (weight.dtype, weight.device.type) == (torch.float32, "cpu")
        (weight * 3).sum().backward()
        assert weight.grad.tolist() == [3, 3]
    assert not torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float64
    assert torch.get_default_device().type == "meta"


@pytest.mark.usefixtures("ordinary_modes")
@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_what_a_guest_changes_is_undone_also_after_an_exception(error):
    cudnn = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    try:
        with guest():
            torch.set_grad_enabled(False)
            torch.set_default_dtype(torch.float64)
            torch.set_default_device("meta")
            torch.use_deterministic_algorithms(True, warn_only=True)
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = not cudnn[0], not cudnn[1]
            if error is not None:
                raise error
    except (ValueError, KeyboardInterrupt):
        assert error is not None
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32
    assert torch.get_default_device().type == "cpu"
    assert not torch.are_deterministic_algorithms_enabled()
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == cudnn


@pytest.mark.usefixtures("ordinary_modes")
def test_the_users_determinism_is_kept_inside():
    torch.use_deterministic_algorithms(True, warn_only=True)
    with guest():
        assert torch.are_deterministic_algorithms_enabled()
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled()


def test_a_guest_can_fit_under_the_users_inference_mode_and_default_device():
    with torch.inference_mode(), torch.device("meta"):
        with guest():
            weight = torch.ones(2, requires_grad=True)
            weight.square().sum().backward()
            assert weight.grad.tolist() == [2, 2]
        assert torch.is_inference_mode_enabled()
        assert torch.ones(1).device.type == "meta"
    assert torch.is_grad_enabled()
