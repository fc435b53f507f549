"""Gaussian deblurring: y = G_h x G_w^T + noise, with reflect padding."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from lmaps_fast.errors import InputError
from lmaps_fast.operators.convolution import reflect_factor
from lmaps_fast.operators.structures import Kronecker
from lmaps_fast.presets import Preset


class GaussianDeblurring(Kronecker):
    """A Gaussian blur, truncated at 4 sigma, the edge not repeated in the padding.

    Args:
        shape: (C, H, W) of the images.
        sigma: standard deviation in pixels, above 0 and below 1000; default 3, the protocol's "61x61" kernel, of which
            truncation leaves 25x25.
        dtype, device: of the images; default float32, "cpu".

    Errors: InputError for another sigma.
    """

    name = "gaussian_deblurring"
    image_like = True
    presets: ClassVar = {
        "paper": Preset(200, 100, 0.01, 0.22, 100),
        "natural": Preset(20, 100, 0.02, 0.22, 50, sigma_max=0.39, sigma_min=0.012, start="measurement"),
    }

    def __init__(
        self,
        shape: Sequence[int],
        sigma: float = 3.0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        factor = reflect_factor(gaussian_kernel(sigma))
        super().__init__(shape, factor, factor, dtype, device)


def gaussian_kernel(sigma: float) -> Tensor:
    """exp(-t^2 / (2 sigma^2)) for |t| <= int(4 sigma + 1/2), normalised to sum 1, float64."""
    if not 0 < sigma < 1e3:
        raise InputError(f"sigma must be a positive number of pixels below 1000, not {sigma}")
    radius = int(4 * sigma + 0.5)
    t = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-0.5 * (t / sigma) ** 2)
    return kernel / kernel.sum()
