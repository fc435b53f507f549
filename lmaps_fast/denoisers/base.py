"""The denoiser protocol, and what adapts a network to it."""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class Denoiser(Protocol):
    """Any callable D(x, sigma): the posterior mean E[x0 | x] of x = x0 + sigma * noise.

    x: [B, C, H, W] in the scale of images in [-1, 1]; sigma: a float, the same for the whole batch. Returns
    [B, C, H, W] without clipping. Solvers such as DPS ask for its gradient, others do not. It may have the attributes
    `preset`, the name of its table of hyper-parameters; `sigma_range`, the least and greatest sigma of its training;
    and `preconditioned`.
    """

    def __call__(self, x: Tensor, sigma: float, /) -> Tensor: ...


class Preconditioned(Protocol):
    """A denoiser as its network F and the linear maps around it: D(x, sigma) = skip x + out F(scale x, sigma).

    A denoiser whose method `preconditioned(shape)` returns one for images [C, H, W] (or None) lets solvers fuse those
    maps with what they do between two calls.
    """

    dtype: torch.dtype  # of the network's input and output

    def preconditioning(self, sigma: float) -> tuple[float, float, float]:
        """skip, out and scale."""

    def evaluate(self, scaled: Tensor, sigma: float) -> Tensor:
        """F of scaled = scale x, [B, C, H, W] in `dtype` and channels_last."""


class Scaled:
    """A denoiser as a network F between linear maps; what it is made of in a class for each convention (`EDM`, `VP`).

    network(x, condition) takes x: [B, C, H, W], in `dtype` and channels_last, and condition(sigma): [B], in float32.
    """

    def __init__(self, network: torch.nn.Module, dtype: torch.dtype = torch.float32) -> None:
        self.network = network.to(dtype=dtype, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.dtype = dtype

    def preconditioning(self, sigma: float) -> tuple[float, float, float]:
        """skip, out and scale."""
        raise NotImplementedError

    def condition(self, sigma: float) -> float:
        """What tells the network the noise level."""
        raise NotImplementedError

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        skip, out, scale = self.preconditioning(sigma)
        F = self.evaluate((x * scale).to(self.dtype, memory_format=torch.channels_last), sigma)
        # skip x first: the result takes the memory format of x.
        return torch.add(x * skip, F, alpha=out)

    def preconditioned(self, shape: Sequence[int]) -> Preconditioned:
        return self

    def evaluate(self, scaled: Tensor, sigma: float) -> Tensor:
        condition = torch.full((len(scaled),), self.condition(sigma), dtype=torch.float32, device=scaled.device)
        with torch.set_grad_enabled(torch.is_grad_enabled() and scaled.requires_grad):  # not for the weights alone
            return self.network(scaled, condition)[:, : scaled.shape[1]]


class EDM(Scaled):
    """EDM preconditioning (Karras et al., 2022): D = c_skip x + c_out F(c_in x, ln(sigma) / 4).

    c_skip = sd^2 / (s^2 + sd^2), c_out = s sd / sqrt(s^2 + sd^2), c_in = 1 / sqrt(s^2 + sd^2).
    """

    def __init__(self, network: torch.nn.Module, sigma_data: float = 0.5, dtype: torch.dtype = torch.float32) -> None:
        super().__init__(network, dtype)
        self.sigma_data = sigma_data

    def preconditioning(self, sigma: float) -> tuple[float, float, float]:
        total = sigma**2 + self.sigma_data**2
        return self.sigma_data**2 / total, sigma * self.sigma_data * total**-0.5, total**-0.5

    def condition(self, sigma: float) -> float:
        return math.log(sigma) / 4
