"""Solvers of deepinv 0.5 (https://deepinv.github.io), whose images and noise levels are in the scale of [0, 1]."""

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import Tensor

from lmaps_fast.denoisers import Denoiser
from lmaps_fast.operators import Linear, Operator
from lmaps_fast.operators.structures.spectral import divide
from lmaps_fast.race.peers_adapters import LinearPart, Peer, Prior, constant

# The library's defaults, but for the guidance of DPS: with "norm" its weight of 1 hardly moves the sample, and the
# documentation names "annealed" as the form in which 1 is the natural choice.
DPS = {"num_steps": 1000, "schedule": "vp", "solver": "ddpm", "weight": 1.0, "guidance": "annealed"}
DDRM = {"sigma_max": 1.0, "steps": 100, "eta": 0.85, "etab": 1.0}
DIFFPIR = {"max_iter": 100, "zeta": 0.1, "lambda_": 7.0}


Measured = Callable[[Tensor], Tensor]  # from y to the measurement of the physics


class UnitDenoiser(torch.nn.Module):
    """d(u, sigma) = (D(2 u - 1, 2 sigma) + 1) / 2 for u in [0, 1]."""

    def __init__(self, prior: Prior) -> None:
        super().__init__()
        self.prior = prior

    def forward(self, u: Tensor, sigma: Tensor | float) -> Tensor:
        return self.prior(2 * u - 1, 2 * sigma) / 2 + 0.5


class Basis:
    """A = U diag(s) V^T, of known singular values, as flat coefficients [1, n], with a V that reaches every image.

    The V of an operator may be thin, and what it leaves out would never be sampled. So the coefficients of x are V^T x
    and, if V is thin, the rest x - V V^T x pixel by pixel with s = 0. White noise on all coefficients is white noise on
    the image, since V takes the part of the rest that is its own out again.
    """

    def __init__(self, operator: Any) -> None:
        self.operator = operator
        with torch.no_grad():
            image = torch.zeros(1, *operator.shape, dtype=operator.dtype, device=operator.device)
            coefficients = operator.to_eigenbasis(image)
        self.shape, self.rank = coefficients.shape, coefficients.numel()
        self.thin = self.rank < prod(operator.shape)
        self.singular_values = operator.singular_values.expand(self.shape)
        rest = self.singular_values.new_zeros(1, prod(operator.shape) if self.thin else 0)
        self.mask = torch.cat((self.singular_values.flatten(1), rest), 1)

    def V(self, u: Tensor) -> Tensor:
        x = self.operator.from_eigenbasis(u[:, : self.rank].view(self.shape))
        return x + self.rest(u[:, self.rank :].view(-1, *self.operator.shape)) if self.thin else x

    def Vt(self, x: Tensor) -> Tensor:
        u = self.operator.to_eigenbasis(x).flatten(1)
        return torch.cat((u, self.rest(x).flatten(1)), 1) if self.thin else u

    def rest(self, x: Tensor) -> Tensor:
        """x - V V^T x."""
        return x - self.operator.from_eigenbasis(self.operator.to_eigenbasis(x))

    def U(self, u: Tensor) -> Tensor:
        c = u[:, : self.rank].view(self.shape)
        return self.operator(self.operator.from_eigenbasis(divide(c, self.singular_values)))

    def Ut(self, y: Tensor) -> Tensor:
        u = torch.zeros_like(self.mask)
        u[:, : self.rank] = self.operator.measured_coefficients(y).flatten(1)
        return u


def linear_physics(operator: Linear, noise: float) -> tuple[Any, Measured]:
    """The operator as a deepinv physics of u in [0, 1], and what makes its measurement of y.

    For A(x) = A(0) + L x, L u = (A(2 u - 1) - A(-1)) / 2. The physics is L / |L|, of norm 1 as the library recommends,
    and its measurement (y - A(-1)) / (2 |L|), with as much less noise. It has singular values where they are known.
    """
    from deepinv import physics

    L = LinearPart(operator)
    norm, black = L.norm(), constant(operator, -1)
    options = {"noise_model": physics.GaussianNoise(noise / (2 * norm)), "device": operator.device}
    if "spectrum" in operator.can:
        b = Basis(operator)
        made = physics.DecomposablePhysics(U=b.U, U_adjoint=b.Ut, V=b.V, V_adjoint=b.Vt, mask=b.mask / norm, **options)
    else:
        made = physics.LinearPhysics(
            A=lambda u, **_: L(u) / norm, A_adjoint=lambda r, **_: L.adjoint(r) / norm, **options
        )
    return made, lambda y: (y - black) / (2 * norm)


def forward_physics(operator: Operator, noise: float) -> tuple[Any, Measured]:
    """The same where only A is asked for; of a nonlinear operator A(2 u - 1) / 2, whose measurement is y / 2."""
    from deepinv import physics

    if isinstance(operator, Linear):
        L = LinearPart(operator)
        norm, black = L.norm(), constant(operator, -1)
        model = physics.GaussianNoise(noise / (2 * norm)).to(operator.device)
        return physics.Physics(A=lambda u, **_: L(u) / norm, noise_model=model), lambda y: (y - black) / (2 * norm)
    model = physics.GaussianNoise(noise / 2).to(operator.device)
    half = physics.Physics(A=lambda u, **_: operator((2 * u - 1).to(operator.dtype)) / 2, noise_model=model)
    return half, lambda y: y / 2


def dps(operator: Operator, denoiser: Denoiser, noise: float, steps: int | None) -> Peer:
    """Any A with a derivative. The last of the num_steps times is the end, so there is one network call less."""
    from deepinv.sampling import DPS as Solver

    settings: dict[str, Any] = DPS | ({} if steps is None else {"num_steps": steps})
    physics, measured = forward_physics(operator, noise)
    solver = Solver(UnitDenoiser(Prior(denoiser, operator.dtype)), device=operator.device, **settings)

    def solve(y: Tensor) -> Tensor:
        return 2 * solver(measured(y), physics, x_init=torch.Size((1, *operator.shape))) - 1

    return Peer(solve, settings, calls=settings["num_steps"] - 1, gradient=True)


def ddrm(operator: Linear, denoiser: Denoiser, noise: float, steps: int | None) -> Peer:
    """Noise levels from sigma_max to 0 at even distances; the last, of 0, asks nothing of the denoiser."""
    import numpy
    from deepinv.sampling import DDRM as Solver

    settings: dict[str, Any] = DDRM | ({} if steps is None else {"steps": steps})
    physics, measured = linear_physics(operator, noise)
    sigmas = numpy.linspace(settings["sigma_max"], 0, settings["steps"])
    unit = UnitDenoiser(Prior(denoiser, operator.dtype))
    solver = Solver(unit, sigmas, eta=settings["eta"], etab=settings["etab"])

    def solve(y: Tensor) -> Tensor:
        return 2 * solver(measured(y), physics) - 1

    return Peer(solve, settings, calls=settings["steps"] - 1, gradient=False)


def diffpir(operator: Linear, denoiser: Denoiser, noise: float, steps: int | None) -> Peer:
    """The proximal map in the eigenbasis of A where it is known, by conjugate gradients for others."""
    from deepinv.optim.data_fidelity import L2
    from deepinv.sampling import DiffPIR as Solver

    settings: dict[str, Any] = DIFFPIR | ({} if steps is None else {"max_iter": steps})
    physics, measured = linear_physics(operator, noise)
    unit = UnitDenoiser(Prior(denoiser, operator.dtype))
    solver = Solver(unit, L2(), sigma=noise / 2, device=operator.device, **settings)

    def solve(y: Tensor) -> Tensor:
        return 2 * solver(measured(y), physics) - 1

    return Peer(solve, settings, calls=settings["max_iter"], gradient=False)
