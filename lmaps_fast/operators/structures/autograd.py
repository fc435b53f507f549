"""Structure: any differentiable A, its gradient by one vector-Jacobian product."""

import torch
from torch import Tensor

from lmaps_fast.operators.base import Operator


class Autograd(Operator):
    """An operator that only has `forward`, differentiable by torch. Its local MAP is the K-step loop."""

    recordable = False

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """A'(x)^T (A(x) - y) by autograd, like x; for a complex y the real gradient of 1/2 |A(x) - y|^2."""
        with torch.inference_mode(False), torch.enable_grad():
            x = x.detach().clone().requires_grad_()
            value = self.forward(x)
            (gradient,) = torch.autograd.grad(value, x, (value - y).detach())
        return gradient
