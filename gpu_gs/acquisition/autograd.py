"""Any BoTorch acquisition function, by autograd."""

import torch
from botorch.acquisition import AcquisitionFunction
from torch import Tensor


class AutogradAcquisition:
    """Value and gradient of a BoTorch acquisition function of single points.

    Args:
        function: It takes (b x 1 x d) and returns (b).
    """

    def __init__(self, function: AcquisitionFunction) -> None:
        self.function = function

    def value(self, X: Tensor) -> Tensor:
        """shape: (b, d) -> (b,)"""
        with torch.no_grad():
            return self.function(X.unsqueeze(-2))

    def value_and_grad(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """shape: (b, d) -> (b,), (b, d)"""
        with torch.enable_grad():
            X = X.detach().requires_grad_(True)
            value = self.function(X.unsqueeze(-2))
            (gradient,) = torch.autograd.grad(value.sum(), X)
        return value.detach(), gradient
