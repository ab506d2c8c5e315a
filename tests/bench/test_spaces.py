"""Search spaces of benchmark problems: what is inside, and that points drawn are."""

from collections import Counter

import numpy as np
import pytest

from gpu_gs.bench.spaces import AtMost, Choice, Float, Int, Space

MIXED = Space((Float(-1.0, 3.0), Int(2, 4), Choice(("a", "b", "c")), Choice((0, 1))))


def test_a_point_outside_has_a_value_of_another_kind_or_beyond_a_bound():
    assert MIXED.contains([0.0, 2, "a", 1])
    for wrong in (
        [3.1, 2, "a", 1],
        [0.0, 5, "a", 1],
        [0.0, 2.0, "a", 1],
        [0.0, 2, "d", 1],
        [0, 2, "a", 1],
        [0.0, 2, "a"],
    ):
        assert not MIXED.contains(wrong)


def test_a_point_that_can_be_judged_may_have_numbers_of_any_type_and_errors_of_rounding():
    space = Space((Float(0.0, 1.0), Int(1, 3), Choice(("a", "b"))), (AtMost({0: 1.0, 1: 1.0}, 3.5),))
    assert space.admits([0.5, np.int64(3), "a"]) and space.admits([1, 2.0, "b"])
    assert space.admits([1.0 + 5e-7, 2, "a"]) and space.admits([0.5 + 5e-7, 3, "a"])
    assert not space.admits([1.0 + 2e-6, 2, "a"])
    assert not space.admits([0.5 + 2e-6, 3, "a"])
    assert not space.admits([0.5, 3, "c"])


def test_discrete_values_are_drawn_equally_often_their_bounds_included():
    points = MIXED.initial_points(1200, seed=0)
    for column, values in ((1, (2, 3, 4)), (2, ("a", "b", "c"))):
        counts = Counter(x[column] for x in points)
        assert set(counts) == set(values)
        assert all(abs(count - 400) < 40 for count in counts.values())
    assert [p.at(u) for p in MIXED.parameters for u in (0.0, 1.0)] == [-1.0, 3.0, 2, 4, "a", "c", 0, 1]


def test_points_meet_linear_constraints_and_do_not_depend_on_their_number():
    space = Space(
        (Float(0.0, 1.0), Float(0.0, 1.0), Int(0, 3)), (AtMost({0: 1.0, 1: 2.0}, 0.5), AtMost({2: -1.0}, -2.0))
    )
    points = space.initial_points(300, seed=0)
    rng = np.random.default_rng(0)
    for x in [*points, *(space.random_point(rng) for _ in range(50))]:
        assert x[0] + 2 * x[1] <= 0.5 and x[2] >= 2
    assert space.initial_points(7, seed=0) == points[:7]
    assert not space.is_box and not MIXED.is_box and Space((Float(0.0, 1.0),)).is_box
    assert not space.contains([0.5, 0.1, 2])


def test_a_space_without_a_point_is_an_error(monkeypatch):
    monkeypatch.setattr("gpu_gs.bench.spaces.MOST_DRAWS", 5000)
    empty = Space((Float(0.0, 1.0),), (AtMost({0: 1.0}, -1.0),))
    with pytest.raises(ValueError, match="meet the constraints"):
        empty.initial_points(1, seed=0)
    with pytest.raises(ValueError, match="meets the constraints"):
        empty.random_point(np.random.default_rng(0))


def test_a_logarithmic_scale_draws_every_decade_equally_often_within_its_bounds():
    space = Space((Float(1e-4, 10.0, log=True), Float(0.1, 0.3, log=True)))
    assert [space.parameters[0].at(u) for u in (0.0, 0.2, 1.0)] == pytest.approx([1e-4, 1e-3, 10.0])
    assert [p.at(u) for p in space.parameters for u in (0.0, 1.0)] == pytest.approx([1e-4, 10.0, 0.1, 0.3])
    rng = np.random.default_rng(0)
    for points in (space.initial_points(1000, seed=0), [space.random_point(rng) for _ in range(1000)]):
        assert all(space.contains(x, tolerance=0.0) for x in points)
        counts = Counter(int(np.floor(np.log10(x[0]))) for x in points)
        assert set(counts) == {-4, -3, -2, -1, 0}
        assert all(abs(count - 200) < 50 for count in counts.values())


def test_a_whole_number_on_a_logarithmic_scale_is_drawn_as_often_as_its_interval_is_long():
    parameter = Int(1, 20, log=True)
    assert [parameter.at(u) for u in (0.0, 1.0)] == [1, 20]
    rng = np.random.default_rng(0)
    for drawn in ([parameter.at((i + 0.5) / 4000) for i in range(4000)], [parameter.draw(rng) for _ in range(4000)]):
        assert all(type(value) is int for value in drawn)
        counts = Counter(drawn)
        for k in range(1, 21):
            expected = 4000 * np.log((k + 0.5) / (k - 0.5)) / np.log(20.5 / 0.5)
            assert abs(counts[k] - expected) < 5 * np.sqrt(expected)


@pytest.mark.parametrize("kind", [Float, Int])
def test_a_logarithmic_scale_from_zero_is_an_error(kind):
    with pytest.raises(ValueError, match="above zero"):
        kind(0, 1, log=True)
