"""``maximize_acquisition``: as high as BoTorch's ``optimize_acqf`` from the same starts, repeatable, with its options."""

import functools

import pytest
import torch
from botorch.acquisition import (
    LogExpectedImprovement,
    UpperConfidenceBound,
    qLogNoisyExpectedImprovement,
    qUpperConfidenceBound,
)
from botorch.exceptions.errors import UnsupportedError
from botorch.models import SingleTaskGP
from botorch.optim import optimize_acqf
from botorch.sampling import SobolQMCNormalSampler
from botorch.test_functions import Ackley, Branin, Hartmann, Levy, Rosenbrock

from gpu_gs import maximize_acquisition
from gpu_gs.acquisition.logei import LogEI
from gpu_gs.acquisition.recognize import reasons_against_closed_form
from gpu_gs.gp.fit import fit
from gpu_gs.gp.posterior import state_from_model
from gpu_gs.optimize.candidates import optimize_acquisition
from gpu_gs.plugin.closed_form import ClosedFormFunction
from tests.gp.models import make_model

PROBLEMS = {
    "branin": (Branin(), 2, 25),
    "hartmann": (Hartmann(6), 6, 60),
    "levy": (Levy(4), 4, 40),
    "rosenbrock": (Rosenbrock(4), 4, 40),
    "ackley": (Ackley(10), 10, 60),
    "levy in 20": (Levy(20), 20, 80),
    "levy in 60": (Levy(60), 60, 80),
}


@functools.cache
def fitted(name):
    """A model fitted to uniform data and points near the best of them, as they lie in a run."""
    function, d, n = PROBLEMS[name]
    generator = torch.Generator().manual_seed(len(name))
    lower, upper = function.bounds.double()
    U = torch.rand(n // 2, d, generator=generator, dtype=torch.double)
    Y = -function((lower + (upper - lower) * U).double())
    near = U[Y.topk(3).indices].repeat(n // 6 + 1, 1)[: n - len(U)]
    U = torch.cat([U, (near + 0.1 * torch.randn(near.shape, generator=generator, dtype=torch.double)).clamp(0, 1)])
    Y = -function((lower + (upper - lower) * U).double())
    model = SingleTaskGP(U, ((Y - Y.mean()) / Y.std()).unsqueeze(-1), outcome_transform=None)
    fit(model)
    return model


def unit_box(d):
    return torch.stack([torch.zeros(d), torch.ones(d)]).double()


def same_starts(d, model, count=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    spread = torch.rand(count // 2, d, generator=generator, dtype=torch.double)
    best = model.train_inputs[0][model.train_targets.topk(count - len(spread)).indices]
    return torch.cat([spread, (best + 0.02 * torch.randn(best.shape, generator=generator).double()).clamp(0, 1)])


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("form", ["LogEI", "LogEI by autograd", "UCB"])
def test_optima_are_at_least_as_good_as_botorchs_from_the_same_starts(name, form, monkeypatch):
    model = fitted(name)
    d = PROBLEMS[name][1]
    if form == "UCB":
        acqf = UpperConfidenceBound(model, beta=1.0)
    else:
        acqf = LogExpectedImprovement(model, best_f=model.train_targets.max())
    assert reasons_against_closed_form(acqf) == []
    if form == "LogEI by autograd":
        monkeypatch.setattr("gpu_gs.optimize.maximize.reasons_against_closed_form", lambda acqf: ["a test"])
    starts = same_starts(d, model)
    _, theirs = optimize_acqf(
        acqf,
        unit_box(d),
        q=1,
        num_restarts=len(starts),
        batch_initial_conditions=starts.unsqueeze(1),
        options={"maxiter": 200},
    )
    x, ours = maximize_acquisition(acqf, unit_box(d), starts=starts, iterations=200)
    assert float(ours) >= float(theirs) - 1e-3 * max(1.0, abs(float(theirs)))
    assert float(acqf(x).detach()) == pytest.approx(float(ours), rel=1e-6)
    assert bool(((x >= 0) & (x <= 1)).all())


@pytest.mark.parametrize("name", ["hartmann", "levy"])
def test_with_starts_of_its_own_it_is_as_high_as_botorch_with_its_own(name):
    model = fitted(name)
    acqf = LogExpectedImprovement(model, best_f=model.train_targets.max())
    d = PROBLEMS[name][1]
    _, ours = maximize_acquisition(acqf, unit_box(d), anchors=model.train_inputs[0][:0], seed=3)
    torch.manual_seed(3)
    _, theirs = optimize_acqf(acqf, unit_box(d), q=1, num_restarts=16, raw_samples=1024)
    assert float(ours) >= float(theirs) - 0.02


def noisy_with_pending_points(model):
    d = model.train_inputs[0].shape[-1]
    pending = torch.rand(2, d, generator=torch.Generator().manual_seed(5), dtype=torch.double)
    sampler = SobolQMCNormalSampler(torch.Size([32]), seed=1)
    X = model.train_inputs[0]
    return qLogNoisyExpectedImprovement(model, X, sampler=sampler, X_pending=pending, prune_baseline=False)


@pytest.mark.parametrize("name", ["branin", "hartmann"])
def test_the_optimum_of_a_noisy_function_with_pending_points_is_at_least_as_good_as_botorchs(name):
    model = fitted(name)
    acqf, d = noisy_with_pending_points(model), PROBLEMS[name][1]
    starts = same_starts(d, model)
    more = {"num_restarts": len(starts), "batch_initial_conditions": starts.unsqueeze(1), "options": {"maxiter": 200}}
    _, theirs = optimize_acqf(acqf, unit_box(d), q=1, **more)
    _, ours = maximize_acquisition(acqf, unit_box(d), starts=starts, iterations=200)
    assert float(ours) >= float(theirs) - 1e-3 * max(1.0, abs(float(theirs)))


def in_closed_form(form, model):
    """Our own functions that no class of BoTorch stands for."""
    X, generator = model.train_inputs[0], torch.Generator().manual_seed(5)
    state = state_from_model(model)
    pending = torch.rand(2, X.shape[-1], generator=generator, dtype=torch.double)
    if form == "LogEI averaged over pending values":
        function = LogEI(state, model.train_targets.max())
        e = torch.randn(2, *function.sample_shape, generator=generator, dtype=torch.double)
        return function.given(pending, e)
    drawn, f = state.draw(pending if "pending" in form else X[:0], 32, generator)
    return LogEI(drawn, f.amax(0))


@pytest.mark.parametrize("name", ["branin", "hartmann", "ackley"])
@pytest.mark.parametrize("form", ["LogNEI", "LogNEI with pending points", "LogEI averaged over pending values"])
def test_optima_of_averaged_closed_forms_are_at_least_as_good_as_botorchs_from_the_same_starts(name, form):
    model = fitted(name)
    function, (lower, upper) = in_closed_form(form, model), unit_box(PROBLEMS[name][1])
    starts = same_starts(len(lower), model)
    _, theirs = optimize_acqf(
        ClosedFormFunction(model, function, None, lambda pending: function),
        torch.stack([lower, upper]),
        q=1,
        num_restarts=len(starts),
        batch_initial_conditions=starts.unsqueeze(1),
        options={"maxiter": 200},
    )
    one, again = (optimize_acquisition(function, lower, upper, starts=starts, iterations=200) for _ in range(2))
    assert one.value >= float(theirs) - 1e-3 * max(1.0, abs(float(theirs)))
    assert float(function.value(one.x.unsqueeze(0))) == pytest.approx(one.value, rel=1e-9)
    assert torch.equal(one.x, again.x) and one.value == again.value


@pytest.mark.parametrize(
    "make",
    [
        lambda model: LogExpectedImprovement(model, best_f=model.train_targets.max()),
        lambda model: UpperConfidenceBound(model, beta=2.0),
        noisy_with_pending_points,
    ],
    ids=["LogEI", "UCB", "by autograd"],
)
def test_it_is_repeatable_to_the_last_bit_and_leaves_the_global_generator_alone(make, random_state_untouched):
    acqf = make(fitted("hartmann"))
    one, again = (maximize_acquisition(acqf, unit_box(6), seed=4) for _ in range(2))
    assert torch.equal(one[0], again[0])
    assert torch.equal(one[1], again[1])


def test_several_candidates_are_pending_for_each_other_and_not_afterwards():
    model = fitted("branin")
    acqf = qUpperConfidenceBound(model, beta=2.0, sampler=SobolQMCNormalSampler(torch.Size([64]), seed=1))
    X, values = maximize_acquisition(acqf, unit_box(2), q=3, raw_samples=128, restarts=4)
    assert X.shape == (3, 2)
    assert values.shape == (3,)
    assert float(torch.pdist(X).min()) > 1e-3
    assert acqf.X_pending is None


def test_one_candidate_of_a_function_that_takes_no_pending_points_is_fine_and_two_are_an_error():
    model = fitted("branin")
    acqf = LogExpectedImprovement(model, best_f=model.train_targets.max())
    maximize_acquisition(acqf, unit_box(2), raw_samples=64, restarts=4)
    with pytest.raises(UnsupportedError):
        maximize_acquisition(acqf, unit_box(2), q=2, raw_samples=64, restarts=4)


def test_fixed_and_discrete_coordinates_and_the_result_s_dtype_and_device(device):
    model = make_model("matern52", 20, 3, device=device)
    fit(model)
    acqf = qLogNoisyExpectedImprovement(
        model, model.train_inputs[0], sampler=SobolQMCNormalSampler(torch.Size([32]), seed=1), prune_baseline=False
    )
    bounds = torch.tensor([[-1.0] * 3, [3.0] * 3], dtype=torch.double, device=device)
    X, _ = maximize_acquisition(
        acqf,
        bounds,
        fixed_features={1: 0.5},
        discrete={0: [-1.0, 0.0, 1.0, 2.0]},
        raw_samples=64,
        restarts=4,
        iterations=20,
    )
    assert float(X[0, 1]) == 0.5
    assert float(X[0, 0]) in (-1.0, 0.0, 1.0, 2.0)
    assert (X.device.type, X.dtype) == (device.type, torch.double)


def test_starts_and_pending_points_of_the_function_are_respected():
    model = fitted("branin")
    acqf = qUpperConfidenceBound(model, beta=2.0, sampler=SobolQMCNormalSampler(torch.Size([64]), seed=1))
    before = torch.full((1, 2), 0.5).double()
    acqf.set_X_pending(before)
    maximize_acquisition(acqf, unit_box(2), q=2, raw_samples=64, restarts=4)
    assert torch.equal(acqf.X_pending, before)
    start = torch.tensor([[0.3, 0.3]]).double()
    _, value = maximize_acquisition(acqf, unit_box(2), starts=start)
    assert float(value) >= float(acqf(start).detach())


def test_the_closed_form_is_taken_where_there_is_one_and_else_it_says_why():
    model = make_model("rbf", 10, 2)
    assert reasons_against_closed_form(LogExpectedImprovement(model, best_f=0.0)) == []
    batch = LogExpectedImprovement(model, best_f=torch.zeros(3))
    assert reasons_against_closed_form(batch) == ["it has a batch of incumbents"]
    sampled = qUpperConfidenceBound(model, beta=1.0)
    assert reasons_against_closed_form(sampled) == ["qUpperConfidenceBound has no closed form here"]
