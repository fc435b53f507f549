"""Decoupled Annealing Posterior Sampling (Zhang et al., CVPR 2025, https://arxiv.org/abs/2407.01521), Algorithm 1."""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from lmaps_fast import dispatch
from lmaps_fast.denoisers import Denoiser
from lmaps_fast.errors import InputError
from lmaps_fast.local_map import Weights, phi
from lmaps_fast.operators import Operator
from lmaps_fast.operators.structures import Spectral
from lmaps_fast.renoise import Noise
from lmaps_fast.schedule import polynomial

METHODS = ("langevin", "hmc", "exact")


@dataclass(frozen=True)
class DAPSSettings:
    """steps N of annealing from sigma_max to sigma_min, each with `ode_steps` network calls and K = inner_steps of
    `method`: "langevin", "hmc" (with `momentum` in [0, 1)), or "exact", which is the distribution of "langevin" after
    its K steps, drawn at once, for operators with a known eigenbasis.

    lr: step size at sigma_max, of which lr_min_ratio is approached at the end; tau: standard deviation that the
    measurement is taken to have; c: weight of A^T r / tau^2, 2 in the public code (1 in its first version). The
    probability flow ends at ode_sigma, or a tenth of the noise level where that is less.
    """

    steps: int = 200
    inner_steps: int = 100
    lr: float = 1e-4
    method: str = "langevin"
    lr_min_ratio: float = 0.01
    momentum: float = 0.0
    tau: float = 0.01
    c: float = 2.0
    ode_steps: int = 5
    ode_sigma: float = 0.01
    sigma_max: float = 100.0
    sigma_min: float = 0.1

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"unknown method {self.method!r}: choose one of {', '.join(METHODS)}")
        for name in ("steps", "inner_steps", "ode_steps"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("lr", "lr_min_ratio", "tau", "c", "ode_sigma"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} must be finite and positive, not {getattr(self, name)}")
        if not 0 <= self.momentum < 1:
            raise InputError(f"momentum must be at least 0 and less than 1, not {self.momentum}")


class DAPS:
    """Per noise level: x0hat by the probability flow from x_t, x0 by sampling p(x0 | x_t, y), x = x0 + sigma_next eps.

    p(x0 | x_t, y) is taken to be proportional to exp(-c |A(x0) - y|^2 / (2 tau^2) - |x0 - x0hat|^2 / (2 sigma^2)).
    """

    def __init__(
        self, operator: Operator, denoiser: Denoiser, settings: DAPSSettings, backend: str | None = None
    ) -> None:
        if settings.method == "exact" and not isinstance(operator, Spectral):
            raise InputError(f"{operator.name} has no known eigenbasis for the exact draw: use the method 'langevin'")
        self.operator, self.denoiser, self.settings = operator, denoiser, settings
        self.backend = dispatch.requested(backend)
        self.sigmas = polynomial(settings.steps, settings.sigma_max, settings.sigma_min)
        self.sample = {"langevin": self.langevin, "hmc": self.hmc, "exact": self.exact}[settings.method]

    def start(self, y: Tensor) -> Tensor:
        guess = self.operator.first_guess(y)  # matters only where sigma_max is low
        grey = torch.zeros((), dtype=self.operator.dtype, device=y.device)
        return grey.expand(len(y), *self.operator.shape) if guess is None else guess

    def begin(self, y: Tensor) -> Tensor:
        return self.operator.precompute(y) if self.settings.method == "exact" else y

    def step(self, x: Tensor, index: int, data: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        sigma, sigma_next = self.sigmas[index : index + 2]
        eta = self.settings.lr * (1 - (1 - self.settings.lr_min_ratio) * index / (self.settings.steps + 1))
        with dispatch.use_backend(self.backend):
            x0hat = self.probability_flow(x, sigma)
            x0 = self.sample(x0hat, sigma, eta, data, noise)
            return (noise.add(x0, sigma_next) if sigma_next else x0), x0

    def probability_flow(self, x: Tensor, sigma: float) -> Tensor:
        """dx / dsigma = (x - D(x, sigma)) / sigma by Euler's method, from sigma down to ode_sigma."""
        end = min(self.settings.ode_sigma, sigma / 10)
        levels = [*polynomial(self.settings.ode_steps, sigma, end)[:-1], end]
        for s, s_next in pairwise(levels):
            x = torch.lerp(self.denoiser(x, s), x, s_next / s)
        return x

    def score(self, x: Tensor, x0hat: Tensor, sigma: float, y: Tensor) -> Tensor:
        """The gradient of log p(x0 | x_t, y) at x0 = x."""
        weight = self.settings.c / self.settings.tau**2
        return (x0hat - x) / sigma**2 - weight * self.operator.gradient(x, y)

    def langevin(self, x0hat: Tensor, sigma: float, eta: float, y: Tensor, noise: Noise) -> Tensor:
        """x <- x + eta score + sqrt(2 eta) eps, K times from x0hat."""
        x = x0hat
        for _ in range(self.settings.inner_steps):
            x = noise.add(x + eta * self.score(x, x0hat, sigma, y), math.sqrt(2 * eta))
        return x

    def hmc(self, x0hat: Tensor, sigma: float, eta: float, y: Tensor, noise: Noise) -> Tensor:
        """v <- m v + sqrt(eta) score + sqrt(2 (1 - m)) eps, x <- x + sqrt(eta) v, K times from x0hat, v ~ N(0, I)."""
        momentum, step = self.settings.momentum, math.sqrt(eta)
        x, v = x0hat, noise()
        for _ in range(self.settings.inner_steps):
            v = momentum * v + step * self.score(x, x0hat, sigma, y)
            v = noise.add(v, math.sqrt(2 * (1 - momentum)))
            x = x + step * v
        return x

    def exact(self, x0hat: Tensor, sigma: float, eta: float, data: Tensor, noise: Noise) -> Tensor:
        """What `langevin` draws from, at once: per eigenvalue s of A^T A, with h = c s / tau^2 + 1 / sigma^2, a normal
        of mean x0hat + phi(h) c (A^T y - s x0hat) / tau^2, phi(h) = (1 - (1 - eta h)^K) / h, and of variance
        2 (1 - (1 - eta h)^{2K}) / (h (2 - eta h)) = 2 phi(h (2 - eta h))."""
        assert isinstance(self.operator, Spectral)
        s = self.operator.spectrum_s
        weight, filter_ = self.settings.c / self.settings.tau**2, Weights(0.0, 1.0, eta, self.settings.inner_steps)

        def deviation(h: Tensor) -> Tensor:
            return (2 * phi(h * (2 - eta * h), filter_)).sqrt()

        # Directions of eigenvalue 0 may be missing in the spectrum: they have the noise of h = 1 / sigma^2.
        h, base = weight * s + sigma**-2, deviation(s.new_full((), sigma**-2))
        eps = noise()
        mean = phi(h, filter_) * weight * (data - s * self.operator.spectrum(x0hat))
        rest = (deviation(h) - base) * self.operator.spectrum(eps)
        return x0hat + base * eps + self.operator.from_spectrum(mean + rest)
