"""Denoisers of other libraries: diffusers and deepinv. Neither is imported here."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lmaps_fast.denoisers.vp import VP, DiscreteTime
from lmaps_fast.errors import InputError


class _Sample(nn.Module):
    """network(x, t).sample, as models of diffusers return it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.training = network.training

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.network(x, t).sample


def from_diffusers(unet: nn.Module, scheduler: Any, dtype: torch.dtype = torch.float32, recordable: bool = False) -> VP:
    """A diffusers UNet2DModel, in the convention of the scheduler that it was trained with, as a denoiser.

    Timesteps between the scheduler's own are interpolated, and nothing is clipped.

    Args:
        unet: left as it is; see `Scaled`, which says when it is copied.
        scheduler: gives alphas_cumprod and config.prediction_type (epsilon, sample or v_prediction).
        dtype: what the network computes in. Default float32.
        recordable: whether a CUDA graph can hold a call of the network; see `Denoiser`. Default False.

    Raises:
        InputError: for a scheduler without these.
    """
    try:
        alphas, prediction = scheduler.alphas_cumprod, scheduler.config.prediction_type
    except AttributeError as error:
        raise InputError(f"the scheduler is not one of a discrete diffusion ({error}): give a DDPMScheduler") from None
    return VP(_Sample(unet), prediction, DiscreteTime(alphas), dtype, recordable)


def from_deepinv_denoiser(denoiser: Callable[[Tensor, float], Tensor]) -> Callable[[Tensor, float], Tensor]:
    """A deepinv denoiser, denoiser(y, sigma) on images and noise levels in [0, 1]: D(x) = 2 d(x / 2 + 1/2, s / 2) - 1.

    Deepinv trains most of them up to sigma of about .2, which is .4 here: give the sampler no more (`sigma_max`). The
    result has the type of x, and a gradient where x asks for one.

    Args:
        denoiser: denoiser(y, sigma) takes y, [B, C, H, W], and sigma, a float.
    """

    def D(x: Tensor, sigma: float) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and x.requires_grad):  # not for the weights alone
            return (2 * denoiser(x / 2 + 0.5, sigma / 2) - 1).to(x.dtype)

    return D
