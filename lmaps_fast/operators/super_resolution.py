"""Super-resolution: y = G_h x G_w^T + noise, where G makes an image smaller."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from lmaps_fast.errors import InputError
from lmaps_fast.operators.structures import Kronecker
from lmaps_fast.operators.structures.banded import Factor
from lmaps_fast.presets import Preset


class SuperResolution(Kronecker):
    """Reduction by a whole factor: [B, C, H, W] to [B, C, ceil(H / scale), ceil(W / scale)].

    Args:
        shape: (C, H, W) of the images.
        scale: how many times smaller y is, a whole number from 2 to the shorter side; default 4.
        method: "bicubic" (default), antialiased as in MATLAB, that is Keys' cubic (a = -.5) stretched by the scale, its
            weights made to sum 1, the image mirrored with its edge repeated (a side that scale does not divide is
            padded so); or "average", the mean of scale x scale pixels.
        dtype, device: of the images; default float32, "cpu".

    Errors: InputError for another method or scale.
    """

    name = "super_resolution"
    presets: ClassVar = {
        "paper": Preset(200, 100, 0.05, 0.15, 20),
        "natural": Preset(20, 100, 0.05, 0.15, 20, sigma_max=0.24, sigma_min=0.012, start="measurement"),
    }

    def __init__(
        self,
        shape: Sequence[int],
        scale: int = 4,
        method: str = "bicubic",
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        if method not in METHODS:
            raise InputError(f"unknown method {method!r}: choose one of {', '.join(METHODS)}")
        if not 2 <= scale == int(scale) or scale > min(shape[1:]):
            raise InputError(f"scale must be a whole number from 2 to the shorter side of the image, not {scale}")
        reach = int(METHODS[method][1] * scale)
        taps = torch.tensor([float(scale), float(list(METHODS).index(method))], dtype=torch.float64)
        factor = Factor(reduction, taps, int(scale), reach)
        super().__init__(shape, factor, factor, dtype, device)

    def preview(self, y: Tensor) -> Tensor:
        """y enlarged by bicubic interpolation."""
        return F.interpolate(y, self.shape[1:], mode="bicubic", align_corners=False)

    @classmethod
    def image_shape(cls, measured: Sequence[int], **parameters: Any) -> tuple[int, ...]:
        scale = parameters.get("scale", 4)
        return (measured[0], measured[1] * scale, measured[2] * scale)


def keys(t: Tensor) -> Tensor:
    """Keys' cubic convolution kernel with a = -1/2."""
    t = t.abs()
    near = 1.5 * t**3 - 2.5 * t**2 + 1
    far = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    return torch.where(t <= 1, near, torch.where(t <= 2, far, 0))


def box(t: Tensor) -> Tensor:
    return (t.abs() <= 0.5).double()


METHODS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {"bicubic": (keys, 2.0), "average": (box, 0.5)}


def reduction(taps: Tensor, n: int) -> Tensor:
    """The matrix [ceil(n / scale), n] that resamples with a kernel, pixel centres aligned. taps: the scale, and which
    of METHODS."""
    scale, (kernel, radius) = int(taps[0]), list(METHODS.values())[int(taps[1])]
    out = -(-n // scale)
    centre = (torch.arange(out, dtype=torch.float64) + 0.5) * scale - 0.5
    reach = int(radius * scale)
    touched = centre.floor()[:, None] + torch.arange(-reach, reach + 2)
    weights = kernel((touched - centre[:, None]) / scale)
    weights = weights / weights.sum(1, keepdim=True)
    place = touched.long() % (2 * n)
    source = torch.where(place < n, place, 2 * n - 1 - place)
    return torch.zeros(out, n, dtype=torch.float64).scatter_add_(1, source, weights)
