"""What all adapters share: a peer, this project's denoiser as libraries call it, the linear part of an operator."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lmaps_fast.denoisers import Denoiser
from lmaps_fast.operators import Linear, Operator

POWER_ITERATIONS = 30


@dataclass(frozen=True)
class Peer:
    """A solver of another library: peer(y, seed) makes [1, C, H, W] in the scale of [-1, 1], unclipped, of y [1, ...].

    settings: what the library is given; calls: evaluations of the denoiser for one image; gradient: whether each is
    followed by its gradient. torch's generators are seeded inside and left as they were; the same seed gives the same
    image.
    """

    solve: Callable[[Tensor], Tensor]
    settings: Mapping[str, Any]
    calls: int
    gradient: bool

    def __call__(self, y: Tensor, seed: int) -> Tensor:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(seed)
            return self.solve(y).detach().to(y.real.dtype)


class Prior:
    """A denoiser as libraries call it: x of any real dtype, sigma a tensor or a float, both in the scale of [-1, 1].

    Libraries ask for levels that a denoiser may not know. At sigma = 0 the answer is x, without a call. Above the
    greatest level of its training, sigma_max, x is scaled down to that noise, D(x sigma_max / sigma, sigma_max): the
    image in it gets fainter, but it was too faint to tell.
    """

    def __init__(self, denoiser: Denoiser, dtype: torch.dtype) -> None:
        self.denoiser, self.dtype = denoiser, dtype
        self.sigma_max = getattr(denoiser, "sigma_range", (0.0, float("inf")))[1]

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        level = float(sigma)
        if level == 0:
            return x
        least = min(level, self.sigma_max)
        return self.denoiser((x * (least / level)).to(self.dtype), least).to(x.dtype)


class LinearPart:
    """L of a linear or affine operator A(x) = A(0) + L x, L^T as `adjoint`, and its spectral norm."""

    def __init__(self, operator: Linear) -> None:
        self.operator: Any = operator  # with singular values where it can tell them
        self.offset = constant(operator, 0)  # A(0)

    def __call__(self, x: Tensor) -> Tensor:
        return self.operator(x.to(self.operator.dtype)) - self.offset

    def adjoint(self, r: Tensor) -> Tensor:
        return self.operator.adjoint(r)

    @torch.no_grad()
    def norm(self) -> float:
        """The greatest singular value, by power iterations where the operator does not know it."""
        if "spectrum" in self.operator.can:
            return self.operator.singular_values.max().item()
        generator = torch.Generator().manual_seed(0)
        v = torch.rand(1, *self.operator.shape, generator=generator).to(self.offset.device, self.operator.dtype)
        for _ in range(POWER_ITERATIONS):
            v = self.adjoint(self(v / v.norm()))
        return v.norm().sqrt().item()


@torch.no_grad()
def constant(operator: Operator, value: float) -> Tensor:
    """A of an image of one value."""
    return operator(torch.full((1, *operator.shape), value, dtype=operator.dtype, device=operator.device))
