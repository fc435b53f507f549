"""Solvers of azula 0.11 (https://github.com/probabilists/azula), which take a denoiser, a schedule and flat images."""

from collections.abc import Callable
from math import prod
from typing import Any

from torch import Tensor

from lmaps_fast.denoisers import Denoiser
from lmaps_fast.operators import Linear, Operator
from lmaps_fast.operators.structures.spectral import divide
from lmaps_fast.race.peers_adapters import LinearPart, Peer, Prior

# The schedule of the library's plugin for ADM's networks: variance preserving, noise levels of .01 to 100.
SCHEDULE = {"alpha_min": 1e-2, "sigma_min": 1e-2}
# The library's defaults, with DDIM and its 64 steps where a method is a denoiser that any sampler can run, as in the
# tutorial on guidance. For DPS and PiGDM, which depend on the number of steps, those of their papers.
DPS = {"steps": 1000, "zeta": 1.0}
PIGDM = {"steps": 100, "eta": 1.0}
DIFFPIR = {"steps": 64, "eta": 0.0, "lmbda": 10.0, "solver": "gmres", "iterations": 1}
TMPD = {"steps": 64, "eta": 0.0}


def denoiser_of(operator: Operator, denoiser: Denoiser) -> Any:
    """The denoiser as azula's: x_t = alpha_t x + sigma_t eps, flat [1, n], to the mean of x."""
    from azula.denoise import Denoiser as Base
    from azula.denoise import DiracPosterior
    from azula.noise import VPSchedule

    prior = Prior(denoiser, operator.dtype)

    class Adapted(Base):
        schedule = VPSchedule(**SCHEDULE)

        def forward(self, x_t: Tensor, t: Tensor, **_: Any) -> DiracPosterior:
            alpha, sigma = self.schedule(t)
            x = (x_t / alpha).view(-1, *operator.shape)
            return DiracPosterior(mean=prior(x, sigma / alpha).flatten(1))

    return Adapted()


def peer(operator: Operator, sampler_of: Callable[[Tensor], Any], settings: dict[str, Any], gradient: bool) -> Peer:
    """sampler_of(y) makes the sampler for the flat measurement y."""

    def solve(y: Tensor) -> Tensor:
        sampler = sampler_of(y.flatten(1))
        start = sampler.init((1, prod(operator.shape)), dtype=operator.dtype, device=operator.device)
        return sampler(start).view(1, *operator.shape)

    return Peer(solve, settings, calls=settings["steps"], gradient=gradient)


def flat(operator: Operator, A: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: A(x.view(-1, *operator.shape)).flatten(1)


def dps(operator: Operator, denoiser: Denoiser, noise: float, steps: int | None) -> Peer:
    """Any A with a derivative."""
    from azula.guidance import DPSSampler

    settings = DPS | ({} if steps is None else {"steps": steps})
    adapted, A = denoiser_of(operator, denoiser), flat(operator, operator)
    return peer(operator, lambda y: DPSSampler(adapted, y, A, silent=True, **settings), settings, gradient=True)


def pigdm(operator: Any, denoiser: Denoiser, noise: float, steps: int | None) -> Peer:
    """A^+ of an operator with known singular values, or the identity for operators that only round.

    The method as the library has it knows of no noise, which A^+ would blow up: singular values below the noise count
    as 0.
    """
    from azula.guidance import PGDMSampler

    settings = PIGDM | ({} if steps is None else {"steps": steps})
    adapted, A = denoiser_of(operator, denoiser), flat(operator, operator)

    def pseudo_inverse(y: Tensor) -> Tensor:
        if "spectrum" not in operator.can:
            return y
        s = operator.singular_values
        u = operator.measured_coefficients(y.view(-1, *operator.measurement_shape))
        return operator.from_eigenbasis(divide(u, s).where(s > noise, 0)).flatten(1)

    def sampler_of(y: Tensor) -> Any:
        return PGDMSampler(adapted, y, A, pseudo_inverse, silent=True, **settings)

    return peer(operator, sampler_of, settings, gradient=True)


def diffpir(operator: Linear, denoiser: Denoiser, noise: float, steps: int | None) -> Peer:
    """The proximal map by iterations of a linear solver."""
    from azula.guidance import DiffPIRDenoiser

    settings = DIFFPIR | ({} if steps is None else {"steps": steps})
    options = {name: settings[name] for name in ("lmbda", "solver", "iterations")}

    def conditioned(adapted: Any, y: Tensor, A: Callable[[Tensor], Tensor]) -> Any:
        return DiffPIRDenoiser(adapted, y, A, noise**2, **options)

    return conditional(operator, denoiser, conditioned, settings, gradient=False)


def tmpd(operator: Linear, denoiser: Denoiser, noise: float, steps: int | None) -> Peer:
    """Two gradients of the network in each step."""
    from azula.guidance import TMPDenoiser

    settings = TMPD | ({} if steps is None else {"steps": steps})

    def conditioned(adapted: Any, y: Tensor, A: Callable[[Tensor], Tensor]) -> Any:
        return TMPDenoiser(adapted, y, A, noise**2)

    return conditional(operator, denoiser, conditioned, settings, gradient=True)


def conditional(
    operator: Linear, denoiser: Denoiser, conditioned: Callable[..., Any], settings: dict[str, Any], gradient: bool
) -> Peer:
    """A peer whose guidance is in its denoiser, conditioned(denoiser, y, A), which DDIM samples from."""
    from azula.sample import DDIMSampler

    adapted, L = denoiser_of(operator, denoiser), LinearPart(operator)

    def sampler_of(y: Tensor) -> Any:
        guided = conditioned(adapted, y - L.offset.flatten(1), flat(operator, L))
        return DDIMSampler(guided, eta=settings["eta"], steps=settings["steps"], silent=True)

    return peer(operator, sampler_of, settings, gradient)
