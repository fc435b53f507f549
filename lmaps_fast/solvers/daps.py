"""Decoupled Annealing Posterior Sampling (Zhang et al., CVPR 2025, https://arxiv.org/abs/2407.01521), Algorithm 1."""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from lmaps_fast.errors import InputError
from lmaps_fast.levels import polynomial
from lmaps_fast.local_map import Problem
from lmaps_fast.operators import Operator, require
from lmaps_fast.operators.structures.spectral import along
from lmaps_fast.presets import whole
from lmaps_fast.solvers.base import Level, Solver, State
from lmaps_fast.solvers.ddpm import of_coefficients
from lmaps_fast.solvers.published import with_settings_for
from lmaps_fast.weights import WeightTable, phi

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
            whole(name, getattr(self, name))
        for name in ("lr", "lr_min_ratio", "tau", "c", "ode_sigma"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} must be finite and positive, not {getattr(self, name)}")
        if not 0 <= self.momentum < 1:
            raise InputError(f"momentum must be at least 0 and less than 1, not {self.momentum}")


def langevin(lr: float, inner_steps: int = 100) -> DAPSSettings:
    return DAPSSettings(200, inner_steps, lr)


def hmc(inner_steps: int, lr: float, lr_min_ratio: float, momentum: float) -> DAPSSettings:
    """Hamiltonian dynamics in place of Langevin's."""
    return DAPSSettings(200, inner_steps, lr, "hmc", lr_min_ratio, momentum)


# The public code's, for 1000 network calls.
PUBLISHED = {
    "super_resolution": langevin(1e-4),
    "inpainting_box": langevin(5e-5),
    "inpainting_random": langevin(1e-4),
    "gaussian_deblurring": langevin(1e-4),
    "motion_deblurring": langevin(5e-5),
    "phase_retrieval": langevin(5e-5),
    "nonlinear_deblurring": langevin(1e-5, 200),
    "high_dynamic_range": langevin(2e-5),
    "denoising": langevin(1e-4),
}
PUBLISHED_HMC = {
    "super_resolution": hmc(12, 1.04e-4, 0.012, 0.90),
    "inpainting_box": hmc(84, 1.15e-5, 0.014, 0.003),
    "inpainting_random": hmc(11, 3.56e-5, 0.015, 0.80),
    "gaussian_deblurring": hmc(82, 4.04e-5, 0.011, 0.10),
    "motion_deblurring": hmc(96, 3.69e-5, 0.010, 0.11),
    "phase_retrieval": hmc(62, 9.75e-6, 0.019, 0.73),
    "nonlinear_deblurring": hmc(85, 1.20e-5, 0.012, 0.46),
    "high_dynamic_range": hmc(100, 2.18e-5, 0.013, 0.23),
}


class DAPS(Solver):
    """Per noise level: x0hat by the probability flow from x_t, x0 by sampling p(x0 | x_t, y), x = x0 + sigma_next eps.

    p(x0 | x_t, y) is taken to be proportional to exp(-c |A(x0) - y|^2 / (2 tau^2) - |x0 - x0hat|^2 / (2 sigma^2)).
    """

    name = "daps"
    recordable = False
    draws = 1_000_000  # of a step: more than any number of inner steps
    alike = ("method", "ode_steps")
    Settings = DAPSSettings

    @classmethod
    def published(cls, task: str, noise: float | None = None) -> DAPSSettings:
        """tau is a setting of the method and does not follow the noise of y."""
        with_settings_for(cls.name, task)
        return PUBLISHED[task]

    def check(self, operator: Operator, settings: DAPSSettings) -> None:
        if settings.method == "exact":
            require(operator, "the exact draw of daps", ("spectrum",))

    def sigmas(self, settings: DAPSSettings) -> list[float]:
        return polynomial(settings.steps, settings.sigma_max, settings.sigma_min)

    def columns(
        self, operator: Operator, settings: DAPSSettings, sigma: float, sigma_next: float, share: float
    ) -> dict:
        index = share * settings.steps
        eta = settings.lr * (1 - (1 - settings.lr_min_ratio) * index / (settings.steps + 1))
        end = min(settings.ode_sigma, sigma / 10)
        flow = [*polynomial(settings.ode_steps, sigma, end)[:-1], end]
        return {
            "eta": eta,
            "K": settings.inner_steps,
            "method": METHODS.index(settings.method),
            "momentum": settings.momentum,
            "weight": settings.c / settings.tau**2,
            **{f"flow_{k}": level for k, level in enumerate(flow)},
        }

    def step(self, problem: Problem, state: State, level: Level) -> State:
        x0hat = self.probability_flow(state.x, level)
        sample = (self.langevin, self.hmc, self.exact)[int(level.on_host("method")[0])]
        x0 = sample(problem, x0hat, level)
        return State(x0 if level.last else level.add_normal(x0, level.sigma_next, self.draws - 1), x0)

    def probability_flow(self, x: Tensor, level: Level) -> Tensor:
        """dx / dsigma = (x - D(x, sigma)) / sigma by Euler's method, from sigma down to ode_sigma."""
        for now, following in pairwise(name for name in level.names if name.startswith("flow_")):
            share = getattr(level, following) / getattr(level, now)
            x = torch.lerp(self.denoise(x, level, now), x, share.expand_as(x))
        return x

    def score(self, problem: Problem, x: Tensor, x0hat: Tensor, level: Level) -> Tensor:
        """The gradient of log p(x0 | x_t, y) at x0 = x."""
        return (x0hat - x) / level.sigma**2 - level.weight * problem.A.gradient(x, problem.y)

    def langevin(self, problem: Problem, x0hat: Tensor, level: Level) -> Tensor:
        """x <- x + eta score + sqrt(2 eta) eps, K times from x0hat."""
        x = x0hat
        for k in range(most_steps(level)):
            following = x + level.eta * self.score(problem, x, x0hat, level)
            x = torch.where(k < level.K, level.add_normal(following, (2 * level.eta).sqrt(), k), x)
        return x

    def hmc(self, problem: Problem, x0hat: Tensor, level: Level) -> Tensor:
        """v <- m v + sqrt(eta) score + sqrt(2 (1 - m)) eps, x <- x + sqrt(eta) v, K times from x0hat, v ~ N(0, I)."""
        momentum, step = level.momentum, level.eta.sqrt()
        x, v = x0hat, level.normal(x0hat)
        for k in range(most_steps(level)):
            v = momentum * v + step * self.score(problem, x, x0hat, level)
            v = level.add_normal(v, (2 * (1 - momentum)).sqrt(), 1 + k)
            x = torch.where(k < level.K, x + step * v, x)
        return x

    def exact(self, problem: Problem, x0hat: Tensor, level: Level) -> Tensor:
        """What `langevin` draws from, at once: per eigenvalue s of A^T A, with h = c s / tau^2 + 1 / sigma^2, a normal
        of mean x0hat + phi(h) c (A^T y - s x0hat) / tau^2, phi(h) = (1 - (1 - eta h)^K) / h, and of variance
        2 (1 - (1 - eta h)^{2K}) / (h (2 - eta h)) = 2 phi(h (2 - eta h))."""
        A = problem.A
        u = A.spectrum(x0hat)
        eta, weight, prior, K = (of_coefficients(v, u) for v in (level.eta, level.weight, level.sigma**-2, level.K))
        zero, one = torch.zeros_like(eta), torch.ones_like(eta)
        rows = torch.stack([v.flatten().double() for v in (zero, one, eta, K)], 1)
        filter_ = WeightTable(rows, most_steps(level))

        def deviation(h: Tensor) -> Tensor:
            return (2 * phi(h * (2 - eta * h), filter_)).sqrt()

        # Directions of eigenvalue 0 may be missing in the spectrum: they have the noise of h = 1 / sigma^2.
        s = along(problem.operator.spectrum_s, u)
        h, base = weight * s + prior, deviation(prior)
        eps = level.normal(x0hat)
        mean = phi(h, filter_) * weight * (problem.precomputed - s * u)
        rest = (deviation(h) - base) * A.spectrum(eps)
        return x0hat + base.view_as(level.eta) * eps + A.from_spectrum(mean + rest)


def most_steps(level: Level) -> int:
    """The largest K of a batch."""
    return int(max(level.on_host("K")))
