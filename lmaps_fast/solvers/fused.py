"""What lies between two network calls, as one kernel on buffers that stay."""

import torch
from torch import Tensor

from lmaps_fast import dispatch, ops
from lmaps_fast.denoisers import Denoiser, Preconditioned
from lmaps_fast.local_map import Problem, Weights
from lmaps_fast.renoise import Noise, shares


class FusedStep:
    """A step of LMAPS on a network F with D(x, sigma) = skip x + out F(scale x): F is called on its own, and the rest
    (preconditioning, local MAP, renoising, preconditioning again) is one kernel, or one kernel after the local MAP
    where that is none itself. Equal to the step in its parts, to rounding."""

    def __init__(self, network: Preconditioned, problem: Problem, shape: tuple[int, ...]) -> None:
        self.network, self.problem = network, problem
        self.pixel_map = problem.pixel_map
        self.x0 = torch.empty(shape, device=problem.data.device)
        self.network_input: Tensor | None = None

    def __call__(
        self, x: Tensor, sigma: float, sigma_next: float, weights: Weights, rho: float, noise: Noise
    ) -> tuple[Tensor, Tensor]:
        """From x at sigma to (x at sigma_next, x0). Overwrites x and the x0 of the last call."""
        skip, out, scale = self.network.preconditioning(sigma)
        if self.network_input is None:
            self.network_input = (x * scale).to(self.network.dtype, memory_format=torch.channels_last)
        F = self.network.evaluate(self.network_input, sigma).to(self.network.dtype)
        F = F.contiguous(memory_format=torch.channels_last)
        local_map = self.pixel_map
        if local_map is None:
            x0 = self.problem(torch.add(x * skip, F, alpha=out), weights)
            local_map = ops.PixelMap("given", x0.contiguous())
        keep, level = shares(sigma, sigma_next, rho)
        following = self.network.preconditioning(sigma_next)[2] if sigma_next else 0.0
        between = ops.Between(skip, out, keep, level, following)
        draw = noise.next_draw() if level else 0
        ops.step(local_map, F, x, self.x0, self.network_input, noise.keys, draw, between, weights)
        return x, self.x0


def fused_step(denoiser: Denoiser, problem: Problem, shape: tuple[int, ...]) -> FusedStep | None:
    """The fused step for images of a shape [B, C, H, W], or None where denoiser, backend or precision has none."""
    network = getattr(denoiser, "preconditioned", lambda shape: None)(shape[1:])
    device = problem.operator.device.type
    if network is None or problem.operator.dtype != torch.float32:
        return None
    if not dispatch.available(ops.STEP, device, problem.backend):
        return None
    return FusedStep(network, problem, shape)
