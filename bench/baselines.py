"""What the collapsed local MAP is compared with: the reference loop compiled; and the problems themselves."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

import lmaps_fast as lf
from lmaps_fast.local_map import Weights, gradient_descent


def levels_of_a_step(weights: Weights, device: torch.device) -> Tensor:
    """A row of `ops.step` with these weights, for all images."""
    skip, out, keep, noise, scale, draw = 0.2, 0.4, 0.0, 0.5, 0.9, 0
    row = [weights.lam, weights.c, weights.lr, weights.steps, skip, out, keep, noise, scale, draw]
    return torch.tensor([row], dtype=torch.float64, device=device)


def compiled_loop() -> Callable[..., Tensor]:
    """torch.compile of the whole K-step loop."""
    torch._dynamo.config.recompile_limit = 64
    return torch.compile(gradient_descent)


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
    return operator, D, operator.measure(x), operator.preset("paper").weights(sigma)
