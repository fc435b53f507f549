"""Quantization: y = x in 2^bits levels."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lmaps_fast import ops
from lmaps_fast.errors import InputError
from lmaps_fast.local_map import Weights
from lmaps_fast.operators.base import Operator


class Quantization(Operator):
    """A(x) = 2 floor(n u + 1/2) / n - 1 with u = (x + 1) / 2 and n = 2^bits - 1; as Jacobian the identity.

    bits: 1 to 16; the protocol has 2, four levels, and no noise.
    """

    name = "quantization"
    noise = 0.0

    def __init__(
        self, shape: Sequence[int], bits: int = 2, dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> None:
        super().__init__(shape, dtype, device)
        if not 1 <= bits == int(bits) <= 16:
            raise InputError(f"bits must be a whole number from 1 to 16, not {bits}")
        self.intervals = 2 ** int(bits) - 1

    @property
    def severity(self) -> float:
        """The step between two levels over that of two bits."""
        return 3 / self.intervals

    def forward(self, x: Tensor) -> Tensor:
        n = self.intervals
        return (n * (x + 1) / 2 + 0.5).floor() * (2 / n) - 1

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        return self(x) - y

    def local_map(self, D: Tensor, y: Tensor, weights: Weights) -> Tensor:
        """K scalar steps per pixel, in registers."""
        return ops.quantization_map(D, y, self.intervals, weights)

    def pixel_map(self, y: Tensor) -> ops.PixelMap:
        return ops.PixelMap("quantization_map", y, parameters=(self.intervals,))
