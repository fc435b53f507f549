"""What the collapsed local MAP is compared with: the reference loop, compiled and not, and the loop as published."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

import lmaps_fast as lf
from lmaps_fast.local_map import Weights, gradient_descent
from lmaps_fast.operators.gaussian_deblurring import gaussian_kernel


def compiled_loop() -> Callable[..., Tensor]:
    """torch.compile of the whole K-step loop."""
    torch._dynamo.config.recompile_limit = 64
    return torch.compile(gradient_descent)


def published_gaussian_deblurring(D: Tensor, y: Tensor, weights: Weights) -> Tensor:
    """The cost of the loop in the public DAPS code: autograd through a dense 61x61 depthwise convolution."""
    line = torch.zeros(61, dtype=D.dtype, device=D.device)
    line[18:43] = gaussian_kernel(3.0).to(D)
    kernel = torch.outer(line, line).expand(3, 1, 61, 61).contiguous()
    x = D
    for _ in range(weights.steps):
        x = x.detach().requires_grad_()
        misfit = F.conv2d(F.pad(x, (30, 30, 30, 30), mode="reflect"), kernel, groups=3) - y
        loss = 0.5 * weights.lam * (x - D).square().sum() + 0.5 * weights.c * misfit.square().sum()
        (gradient,) = torch.autograd.grad(loss, x)
        x = x - weights.lr * gradient
    return x.detach()


def problem(
    task: str, shape: tuple[int, int, int], sigma: float, **arguments: object
) -> tuple[lf.operators.Operator, Tensor, Tensor, Weights]:
    """Operator, D, y and the paper's weights at a noise level, on random smooth images."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, shape[0], 16, 16, generator=generator)
    x = F.interpolate(coarse, shape[1:], mode="bicubic").clamp(-1, 1)
    D = x + 0.1 * torch.randn(x.shape, generator=generator)
    operator = lf.operators.create(task, shape, **arguments)
    x, D = x.to(operator.device), D.to(operator.device)
    return operator, D, operator.measure(x), lf.presets.get(task, "paper").weights(sigma)
