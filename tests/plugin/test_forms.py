"""Objectives and outcome constraints as independent linear forms."""

import math

import pytest
import torch
from ax.generators.torch_base import TorchOptConfig

from gpu_gs.plugin.forms import Forms, forms_of, shared_rows


def tensor(values):
    return torch.tensor(values, dtype=torch.double)


def config(weights, A=None, b=None):
    constraints = None if A is None else (tensor(A), tensor(b).reshape(-1, 1))
    return TorchOptConfig(objective_weights=tensor(weights), outcome_constraints=constraints)


def test_constraints_become_bounds_of_normalized_forms():
    forms = forms_of(config([[0.0, -1.0, 0.0]], A=[[2.0, 0.0, 0.0], [0.0, 0.0, -4.0]], b=[3.0, 2.0]))
    assert isinstance(forms, Forms)
    assert forms.outcomes == (0, 1, 2)
    assert forms.objectives == 1
    torch.testing.assert_close(forms.matrix, tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
    assert forms.lower.tolist() == [-math.inf, -0.5]
    assert forms.upper.tolist() == [1.5, math.inf]


def test_two_bounds_of_the_same_combination_are_one_interval():
    A, b = [[0.0, 3.0, 4.0], [0.0, -6.0, -8.0], [0.0, 1.5, 2.0]], [5.0, 20.0, 10.0]
    forms = forms_of(config([[1.0, 0.0, 0.0]], A, b))
    assert isinstance(forms, Forms)
    torch.testing.assert_close(forms.matrix[1], tensor([0.0, 0.6, 0.8]))
    assert forms.lower.tolist() == [-2.0]
    assert forms.upper.tolist() == [1.0]


def test_values_that_satisfy_the_forms_are_those_that_satisfy_the_constraints():
    A = [[0.0, 1.0, -2.0], [0.0, -1.0, 2.0]]
    b = [0.3, 0.9]
    forms = forms_of(config([[1.0, 0.0, 0.0]], A, b))
    assert isinstance(forms, Forms)
    f = torch.randn(3, 500, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    values = forms.matrix[1:] @ f
    inside = ((values >= forms.lower.unsqueeze(1)) & (values <= forms.upper.unsqueeze(1))).all(0)
    assert torch.equal(inside, (tensor(A) @ f <= tensor(b).unsqueeze(1)).all(0))
    assert 0 < int(inside.sum()) < 500


def test_outcomes_that_do_not_matter_take_no_part():
    forms = forms_of(config([[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, -1.0]]))
    assert isinstance(forms, Forms)
    assert forms.outcomes == (1, 3)
    assert forms.objectives == 2
    torch.testing.assert_close(forms.matrix, tensor([[1.0, 0.0], [0.0, -1.0]]))


@pytest.mark.parametrize(
    ("weights", "A", "b", "reason"),
    [
        ([[1.0, 0.0]], [[1.0, 0.0]], [0.5], "share an outcome"),
        ([[1.0, 1.0], [0.0, 1.0]], None, None, "share an outcome"),
        ([[1.0, 0.0, 0.0]], [[0.0, 1.0, 1.0], [0.0, 1.0, 0.0]], [1.0, 1.0], "share an outcome"),
        (torch.eye(5).tolist(), None, None, "5 objectives"),
        ([[0.0, 0.0]], None, None, "without a weight"),
    ],
)
def test_what_is_not_independent_has_a_reason(weights, A, b, reason):
    reasons = forms_of(config(weights, A, b))
    assert isinstance(reasons, list)
    assert reason in reasons[0]


def test_shared_rows_are_the_points_that_all_outcomes_have_in_the_order_of_the_first():
    one = tensor([[0.0, 1.0], [0.5, 0.5], [2.0, 2.0], [0.5, 0.5]])
    other = tensor([[2.0, 2.0], [9.0, 9.0], [0.5, 0.5]])
    first, second = shared_rows([one, other])
    assert torch.equal(one[first], tensor([[0.5, 0.5], [2.0, 2.0]]))
    assert torch.equal(other[second], one[first])


def test_shared_rows_of_the_same_points_are_all_of_them():
    X = tensor([[0.0], [1.0], [1.0]])
    assert [rows.tolist() for rows in shared_rows([X, X.clone()])] == [[0, 1, 2], [0, 1, 2]]
