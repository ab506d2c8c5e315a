"""The closed form of a BoTorch acquisition function, where it has one here.

``reasons_against_closed_form`` says why it has none; an empty list means ``closed_form`` will make it.
"""

from typing import Any

from botorch.acquisition import AcquisitionFunction, LogExpectedImprovement
from botorch.acquisition import UpperConfidenceBound as BoTorchUpperConfidenceBound

from gpu_gs.acquisition.logei import LogEI
from gpu_gs.acquisition.pool import ClosedForm
from gpu_gs.acquisition.ucb import UpperConfidenceBound
from gpu_gs.gp.posterior import reasons_against_state, state_from_model


def reasons_against_closed_form(acqf: AcquisitionFunction) -> list[str]:
    """Why an acquisition function has no closed form here; empty means it has."""
    if type(acqf) not in (LogExpectedImprovement, BoTorchUpperConfidenceBound):
        return [f"{type(acqf).__name__} has no closed form here"]
    function: Any = acqf
    reasons = reasons_against_state(function.model)
    if function.posterior_transform is not None:
        reasons.append("it transforms the posterior")
    if isinstance(acqf, LogExpectedImprovement) and function.best_f.numel() != 1:
        reasons.append("it has a batch of incumbents")
    if isinstance(acqf, BoTorchUpperConfidenceBound) and function.beta.numel() != 1:
        reasons.append("it has a batch of betas")
    return reasons


def closed_form(acqf: AcquisitionFunction) -> ClosedForm:
    """The closed form of an acquisition function without ``reasons_against_closed_form``."""
    function: Any = acqf
    state = state_from_model(function.model)
    weight = 1.0 if function.maximize else -1.0
    if isinstance(acqf, LogExpectedImprovement):
        return LogEI(state, function.best_f.detach().to(state.y).reshape(()), weight)
    return UpperConfidenceBound(state, float(function.beta), weight)
