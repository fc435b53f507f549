"""Quantization: y = x in 2^bits levels."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from lmaps_fast.errors import InputError
from lmaps_fast.operators.structures import Pixelwise
from lmaps_fast.operators.structures.spectral import column
from lmaps_fast.ops import PixelMap
from lmaps_fast.presets import Preset


class Quantization(Pixelwise):
    """A(x) = 2 floor(n u + 1/2) / n - 1 with u = (x + 1) / 2 and n = 2^bits - 1; as Jacobian the identity.

    Args:
        shape: (C, *spatial) of the images.
        bits: of a pixel, 1 to 16; default 2, the protocol's four levels. The protocol adds no noise.
        dtype, device: of the images; default float32, "cpu".

    Errors: InputError for another number of bits.
    """

    name = "quantization"
    noise = 0.0
    can = frozenset({"pinv"})
    image_like = True
    exact = frozenset({"intervals"})
    presets: ClassVar = {
        "paper": Preset(200, 20, 0.2, 0.5, 5),
        "natural": Preset(20, 20, 0.013, 0.12, 80, sigma_max=0.39, sigma_min=0.048, start="measurement"),
    }

    intervals: Tensor  # n, [1 or B, 1]

    def __init__(
        self,
        shape: Sequence[int],
        bits: int = 2,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(shape, dtype, device)
        if not 1 <= bits == int(bits) <= 16:
            raise InputError(f"bits must be a whole number from 1 to 16, not {bits}")
        self.number("intervals", torch.tensor([[2.0 ** int(bits) - 1]], dtype=torch.float64), torch.float64)

    @property
    def severity(self) -> list[float]:
        """The step between two levels over that of two bits."""
        return [3 / n for n in self.intervals[:, 0].tolist()]

    def forward(self, x: Tensor) -> Tensor:
        n = column(self.intervals.to(x.dtype), x)
        return (n * (x + 1) / 2 + 0.5).floor() * (2 / n) - 1

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        return self.forward(x) - y

    def pinv(self, y: Tensor) -> Tensor:
        """The identity: A(y) = y for every y that A makes."""
        return y

    def largest_eigenvalues(self) -> list[float]:
        return [1.0] * self.batch

    def pixel_map(self, y: Tensor) -> PixelMap:
        """K scalar steps per pixel, in registers."""
        return PixelMap("quantization_map", y, (self.intervals,))
