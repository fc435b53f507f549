"""What the solvers on the noise levels of DDPM share: settings, levels, and the coefficients of a measurement."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lmaps_fast.errors import InputError
from lmaps_fast.levels import ddpm_levels
from lmaps_fast.local_map import Problem
from lmaps_fast.operators import Operator
from lmaps_fast.operators.structures.spectral import along
from lmaps_fast.presets import whole
from lmaps_fast.solvers.base import Solver
from lmaps_fast.solvers.renoise import shares

SHARES = ("eta", "eta_b", "zeta")
LEAST_NOISE = 1e-3  # what the public code takes for measurements without noise


@dataclass(frozen=True)
class DDPMSettings:
    """Settings of a solver on the noise levels of DDPM.

    Args:
        steps: N, network calls, at least 1.
        sigma_max: the noise level that the first step may have at most (of `ddpm_levels`); default: no limit.
        sigma_y: standard deviation of the measurement's noise, not negative; default: the operator's protocol.

    Errors: InputError outside these ranges; the shares of some solvers (eta, eta_b, zeta) are in 0 to 1.
    """

    steps: int = 100
    sigma_max: float = math.inf
    sigma_y: float | None = None

    def __post_init__(self) -> None:
        whole("steps", self.steps)
        if self.sigma_y is not None and not 0 <= self.sigma_y < math.inf:
            raise InputError(f"sigma_y must be finite and not negative, not {self.sigma_y}")
        for name in SHARES:
            if not 0 <= getattr(self, name, 0) <= 1:
                raise InputError(f"{name} must be between 0 and 1, not {getattr(self, name)}")


class DDPMSolver(Solver):
    """A solver on the noise levels of DDPM. It starts from the operator's first guess, which matters only where
    sigma_max is low: the noise of all levels drowns it."""

    quadratic = False
    uses_noise = True
    least_noise = 0.0  # of sigma_y

    @classmethod
    def published(cls, task: str, noise: float | None = None) -> Any:
        return cls.Settings() if noise is None else cls.Settings(sigma_y=noise)

    def sigmas(self, settings: DDPMSettings) -> list[float]:
        return ddpm_levels(settings.steps, settings.sigma_max, self.quadratic)

    def columns(self, operator: Operator, settings: Any, sigma: float, sigma_next: float, share: float) -> dict:
        sigma_y = operator.noise if settings.sigma_y is None else settings.sigma_y
        return {"sigma_y": max(sigma_y, self.least_noise)}


class MeasuredState(NamedTuple):
    """x at the next noise level, the estimate x0, and the measurement's `coefficients`, [B, ..., *coefficients]."""

    x: Tensor
    x0: Tensor
    y_bar: Tensor
    std: Tensor
    measured: Tensor


def coefficients(problem: Problem, sigma_y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A measurement in the eigenbasis of A^T A: y_bar = U^T y / s, its noise std = sigma_y / s, and where A measures
    at all, three tensors of one shape. Singular values s that rounding makes unreadable count as 0."""
    s = problem.operator.singular_values
    largest = s.flatten(1).amax(1).view(-1, *[1] * (s.dim() - 1))
    measured = s > torch.finfo(s.dtype).eps ** 0.5 * largest
    u = problem.A.measured_coefficients(problem.y)
    s, measured = along(s.where(measured, 1), u), along(measured, u)
    std = of_coefficients(sigma_y, u) / s
    return u / s, std.expand_as(u).contiguous(), measured.expand_as(u).contiguous()


def of_coefficients(column: Tensor, u: Tensor) -> Tensor:
    """A column of a level, [1 or B, 1, ...], in as many dimensions as the coefficients u."""
    return column.reshape(-1, *[1] * (u.dim() - 1))


def ancestral_shares(sigma: float, sigma_next: float, eta: float) -> dict[str, float]:
    """The columns keep and noise of DDIM with eta, whose share of fresh noise is eta sqrt(1 - sigma_next^2 / sigma^2);
    with eta = 1 that of DDPM."""
    keep, noise = shares(sigma, sigma_next, eta * math.sqrt(1 - (sigma_next / sigma) ** 2))
    return {"keep": keep, "noise": noise}
