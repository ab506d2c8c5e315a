"""Search spaces of benchmark problems: what is inside, and that points drawn are."""

from collections import Counter

import numpy as np
import pytest

from gpu_gs.bench.problems import PROBLEMS
from gpu_gs.bench.spaces import AtMost, Choice, Derived, Equal, Float, Int, Space

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


@pytest.mark.parametrize(
    "name", ["hartmann6-hierarchical", "hartmann6-derived", "hartmann6-equation", "hartmann6-linear"]
)
def test_points_of_every_kind_of_space_can_be_judged(name):
    space = PROBLEMS[name].space
    points = space.initial_points(8, seed=0)
    assert all(space.contains(x) and space.admits(x) for x in points)
    assert not any(space.admits(x[:-1]) for x in points)
    assert not any(space.admits([2.5, *x[1:]]) for x in points)


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


UNIT = Float(0.0, 1.0)


def drawn(space, count=100):
    rng = np.random.default_rng(0)
    return [*space.initial_points(count, seed=0), *(space.random_point(rng) for _ in range(count))]


def test_points_meet_a_linear_equation_which_their_neighbours_do_not():
    space = Space((UNIT, Int(0, 3), UNIT), (Equal({0: 1.0, 1: 0.25, 2: 2.0}, 1.3), AtMost({0: 1.0}, 0.9)))
    for x in drawn(space):
        assert x[0] + 0.25 * x[1] + 2 * x[2] == pytest.approx(1.3, abs=1e-12)
        assert space.contains(x, tolerance=0.0) and x[0] <= 0.9 and 0 <= x[2] <= 1
        assert not space.contains([x[0], x[1], x[2] + 1e-8]) and not space.contains([x[0], x[1], x[2] - 1e-8])
    assert space.initial_points(7, seed=0) == space.initial_points(100, seed=0)[:7]
    assert not space.is_box


def test_a_point_has_the_parameters_of_its_branch_only():
    space = Space((Choice(("a", "b")), UNIT, Int(1, 2), UNIT), branches={0: {"a": (1,), "b": (2,)}})
    points = drawn(space)
    assert {x[0] for x in points} == {"a", "b"}
    for x in points:
        assert [value is None for value in x] == (
            [False, False, True, False] if x[0] == "a" else [False, True, False, False]
        )
        assert space.contains(x)
    for wrong in (["a", 0.5, 1, 0.5], ["a", None, None, 0.5], ["b", 0.5, None, 0.5], ["a", 0.5, None, None]):
        assert not space.contains(wrong)
    assert not Space((UNIT, UNIT), branches={0: {0.5: (1,)}}).is_box


def test_a_derived_parameter_follows_those_that_it_is_derived_from():
    space = Space((UNIT, UNIT), derived=(Derived({0: 2.0, 1: -0.5}),))
    for x in drawn(space):
        assert x[2] == pytest.approx(2 * x[0] - 0.5 * x[1], abs=1e-12)
        assert space.contains(x, tolerance=0.0) and not space.contains([*x[:2], x[2] + 1e-8])
        assert not space.contains(x[:2])
    assert space.names == ["x0", "x1", "x2"] and not space.is_box


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"constraints": (Equal({0: 1.0, 1: 1.0}, 2.0),)}, "its last parameter is to be a float"),
        ({"constraints": (Equal({0: 1.0, 2: 1.0}, 1.0), AtMost({2: 1.0}, 0.5))}, "no other constraint"),
        ({"constraints": (AtMost({0: 1.0}, 0.5),), "branches": {3: {"a": (0,)}}}, "x0 is not a part of every point"),
        ({"derived": (Derived({2: 1.0}),), "branches": {3: {"a": (2,)}}}, "x2 is not a part of every point"),
        ({"branches": {3: {"a": (4,)}, 4: {"b": (0,)}}}, "x4 depends on another choice and has branches itself"),
    ],
)
def test_a_space_whose_parts_do_not_go_together_is_an_error(parts, words):
    with pytest.raises(ValueError, match=words):
        Space((UNIT, Int(0, 3), UNIT, Choice(("a", "b")), Choice(("a", "b"))), **parts)


def test_a_space_without_a_point_is_an_error(monkeypatch):
    monkeypatch.setattr("gpu_gs.bench.spaces.MOST_DRAWS", 5000)
    empty = Space((Float(0.0, 1.0),), (AtMost({0: 1.0}, -1.0),))
    with pytest.raises(ValueError, match="meet the constraints"):
        empty.initial_points(1, seed=0)
    with pytest.raises(ValueError, match="meets the constraints"):
        empty.random_point(np.random.default_rng(0))
    beyond = Space((UNIT, UNIT), (Equal({0: 1.0, 1: 1.0}, 3.0),))
    with pytest.raises(ValueError, match="meet the constraints"):
        beyond.initial_points(1, seed=0)


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
