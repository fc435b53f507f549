"""Tweedie Moment Projected Diffusions, TMPD (Boys et al., 2023), https://arxiv.org/abs/2310.06721, in the scale
x = x0 + sigma eps."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lmaps_fast.denoisers import Denoiser
from lmaps_fast.errors import InputError
from lmaps_fast.operators import Linear, Operator
from lmaps_fast.renoise import Noise, renoise
from lmaps_fast.solvers.ddpm import LEAST_NOISE, LINEAR_TASKS, DDPMSettings, DDPMSolver, ancestral, with_vjp


@dataclass(frozen=True)
class TMPDSettings(DDPMSettings):
    """Those of the paper: 1000 steps of DDPM (eta 1), and A C A^T as the diagonal of its row sums. cg_steps: solve
    with all of A C A^T instead, by so many steps of conjugate gradients, each a gradient of the denoiser."""

    steps: int = 1000
    eta: float = 1.0
    cg_steps: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cg_steps < 0:
            raise InputError(f"cg_steps must not be negative, not {self.cg_steps}")


class TMPD(DDPMSolver):
    """Per noise level: one network call, whose gradient gives the covariance of x0 given x, C = sigma^2 dD/dx, and
    the mean given the measurement too: x0 = D + C A^T (A C A^T + sigma_y^2 I)^{-1} (y - A D)."""

    operator: Linear
    settings: TMPDSettings

    def __init__(
        self, operator: Operator, denoiser: Denoiser, settings: TMPDSettings | None = None, backend: str | None = None
    ) -> None:
        if not isinstance(operator, Linear):
            raise InputError(f"tmpd needs a linear A, unlike {operator.name}: use {LINEAR_TASKS}")
        super().__init__(operator, denoiser, settings or TMPDSettings(), backend)
        self.sigma_y = max(self.sigma_y, LEAST_NOISE)

    def step(self, x: Tensor, index: int, y: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        sigma, sigma_next = self.sigmas[index : index + 2]
        A, At = self.operator, self.operator.adjoint
        D, vjp = with_vjp(self.denoiser, x, sigma)
        r = y - A(D)

        def covariance(v: Tensor) -> Tensor:
            """(A C A^T + sigma_y^2 I) v, the same gradient kept for the next."""
            return A(sigma**2 * vjp(At(v), keep=True)) + self.sigma_y**2 * v

        if self.settings.cg_steps:
            solved = conjugate_gradients(covariance, r, self.settings.cg_steps)
        else:
            solved = r / covariance(torch.ones_like(r)).clamp(min=self.sigma_y**2)
        x0 = D + sigma**2 * vjp(At(solved))
        return renoise(x, x0, sigma, sigma_next, ancestral(sigma, sigma_next, self.settings.eta), noise), x0


def conjugate_gradients(M: Callable[[Tensor], Tensor], b: Tensor, steps: int) -> Tensor:
    """M^{-1} b for each of a batch, b: [B, ...] and M symmetric and positive."""

    def dot(u: Tensor, v: Tensor) -> Tensor:
        return (u * v).flatten(1).sum(1).view(-1, *[1] * (u.dim() - 1))

    tiny = torch.finfo(b.dtype).tiny  # 0 / tiny where an image is solved before the others
    v, r, p = torch.zeros_like(b), b, b
    rr = dot(r, r)
    for _ in range(steps):
        Mp = M(p)
        alpha = rr / dot(p, Mp).clamp(min=tiny)
        v, r = v + alpha * p, r - alpha * Mp
        before, rr = rr, dot(r, r)
        p = r + rr / before.clamp(min=tiny) * p
    return v
