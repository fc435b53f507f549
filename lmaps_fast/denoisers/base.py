"""The denoiser protocol, and what adapts a network to it."""

from typing import Protocol

import torch
from torch import Tensor


class Denoiser(Protocol):
    """Any callable D(x, sigma): the posterior mean E[x0 | x] of x = x0 + sigma * noise.

    x: [B, C, H, W] in the scale of images in [-1, 1]; sigma: a float, the same for the whole batch. Returns
    [B, C, H, W] without clipping. Gradients are not asked for.
    """

    def __call__(self, x: Tensor, sigma: float, /) -> Tensor: ...


class EDM:
    """EDM preconditioning (Karras et al., 2022): D = c_skip x + c_out F(c_in x, ln(sigma) / 4).

    c_skip = sd^2 / (s^2 + sd^2), c_out = s sd / sqrt(s^2 + sd^2), c_in = 1 / sqrt(s^2 + sd^2).
    network(x, c_noise) takes x: [B, C, H, W], in `dtype` and channels_last, and c_noise: [B], always float32.
    """

    def __init__(self, network: torch.nn.Module, sigma_data: float = 0.5, dtype: torch.dtype = torch.float32) -> None:
        self.network = network.to(dtype=dtype, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.sigma_data, self.dtype = sigma_data, dtype

    @torch.no_grad()
    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        total = sigma**2 + self.sigma_data**2
        scaled = (x * total**-0.5).to(self.dtype, memory_format=torch.channels_last)
        c_noise = torch.full((len(x),), sigma, dtype=torch.float32, device=x.device).log() / 4
        F = self.network(scaled, c_noise)
        # c_skip x first: the result takes the memory format of x.
        return x * (self.sigma_data**2 / total) + F.to(x.dtype) * (sigma * self.sigma_data * total**-0.5)
