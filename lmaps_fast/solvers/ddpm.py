"""What the solvers on the noise levels of DDPM share: settings, start, the coefficients of a measurement, gradients."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lmaps_fast import dispatch
from lmaps_fast.denoisers import Denoiser
from lmaps_fast.errors import InputError
from lmaps_fast.operators import Operator
from lmaps_fast.operators.structures import Spectral
from lmaps_fast.schedule import ddpm_levels

SHARES = ("eta", "eta_b", "zeta")
SPECTRAL_TASKS = (
    "denoising, inpainting_box, inpainting_random, gaussian_deblurring, super_resolution and motion_deblurring with "
    "padding='circular'"
)
LINEAR_TASKS = (
    "denoising, inpainting_box, inpainting_random, gaussian_deblurring, motion_deblurring, super_resolution or a "
    "linear operator of your own"
)
LEAST_NOISE = 1e-3  # what the public code takes for measurements without noise


@dataclass(frozen=True)
class DDPMSettings:
    """steps N (network calls); sigma_max: the noise level that the first step may have at most (of `ddpm_levels`);
    sigma_y >= 0: standard deviation of the measurement's noise, the operator's protocol unless given. The SHARES of
    some solvers are in [0, 1]. Raises InputError outside these ranges."""

    steps: int = 100
    sigma_max: float = math.inf
    sigma_y: float | None = None

    def __post_init__(self) -> None:
        if self.sigma_y is not None and not 0 <= self.sigma_y < math.inf:
            raise InputError(f"sigma_y must be finite and not negative, not {self.sigma_y}")
        for name in SHARES:
            if not 0 <= getattr(self, name, 0) <= 1:
                raise InputError(f"{name} must be between 0 and 1, not {getattr(self, name)}")


class DDPMSolver:
    """A solver on the noise levels of DDPM. It starts from the operator's first guess, which matters only where
    sigma_max is low: the noise of all levels drowns it."""

    operator: Operator
    settings: DDPMSettings
    quadratic = False

    def __init__(
        self, operator: Operator, denoiser: Denoiser, settings: DDPMSettings, backend: str | None = None
    ) -> None:
        self.operator, self.denoiser, self.settings = operator, denoiser, settings
        self.backend = dispatch.requested(backend)
        self.sigmas = ddpm_levels(settings.steps, settings.sigma_max, self.quadratic)
        self.sigma_y = operator.noise if settings.sigma_y is None else settings.sigma_y

    def start(self, y: Tensor) -> Tensor:
        guess = self.operator.first_guess(y)
        grey = torch.zeros((), dtype=self.operator.dtype, device=y.device)
        return grey.expand(len(y), *self.operator.shape) if guess is None else guess

    def begin(self, y: Tensor) -> Any:
        return y


class Coefficients(NamedTuple):
    """A measurement in the eigenbasis of A^T A: y_bar = U^T y / s, its noise std = sigma_y / s, and where A measures
    at all. Singular values s that rounding makes unreadable count as 0."""

    y_bar: Tensor
    std: Tensor
    measured: Tensor

    def surer(self, sigma: float) -> Tensor:
        """Where the measurement is less noisy than an image with noise sigma."""
        return self.measured & (self.std <= sigma)


def coefficients(operator: Spectral, y: Tensor, sigma_y: float) -> Coefficients:
    s = operator.singular_values
    measured = s > torch.finfo(s.dtype).eps ** 0.5 * s.max()
    s = s.where(measured, 1)
    return Coefficients(operator.measured_coefficients(y) / s, sigma_y / s, measured)


def spectral(operator: Operator, solver: str) -> Spectral:
    """The operator, if its singular values are known. Raises InputError otherwise."""
    if not isinstance(operator, Spectral):
        raise InputError(f"{solver} needs the singular values of A, unknown for {operator.name}: use {SPECTRAL_TASKS}")
    return operator


def with_vjp(denoiser: Denoiser, x: Tensor, sigma: float) -> tuple[Tensor, Callable[..., Tensor]]:
    """D = denoiser(x, sigma), and v -> (dD/dx)^T v, which can be called again after `keep=True`. Raises InputError for
    a denoiser without gradients."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        D = denoiser(x, sigma)
    if not D.requires_grad:
        raise InputError("this solver needs the gradient of the denoiser, which has none: call it without no_grad")

    def vjp(v: Tensor, keep: bool = False) -> Tensor:
        return torch.autograd.grad(D, x, v, retain_graph=keep)[0]

    return D.detach(), vjp


def ancestral(sigma: float, sigma_next: float, eta: float) -> float:
    """The share of fresh noise of DDIM with eta: eta sqrt(1 - sigma_next^2 / sigma^2), with eta = 1 that of DDPM."""
    return eta * math.sqrt(1 - (sigma_next / sigma) ** 2)
