"""Structure: A(x) = m x with a mask m over pixels, so that every pixel is a problem of its own."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lmaps_fast import ops
from lmaps_fast.errors import InputError
from lmaps_fast.local_map import Weights
from lmaps_fast.operators.structures.spectral import Spectral


class Diagonal(Spectral):
    """A(x) = m x. mask m: [H, W], [1, H, W] or [B, 1, H, W] (one per image), shared by the channels.

    The eigenbasis is that of the pixels, so the local MAP is one pass over the image.
    """

    mask: Tensor
    s: Tensor

    def __init__(
        self, shape: Sequence[int], mask: Tensor, dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> None:
        super().__init__(shape, dtype, device)
        mask = mask.reshape(-1, 1, *mask.shape[-2:])
        if mask.shape[-2:] != self.shape[1:]:
            height, width = mask.shape[-2:]
            raise InputError(
                f"the mask is {width}x{height} but the image is {shape[2]}x{shape[1]}: give a mask of the image's size"
            )
        if not torch.isfinite(mask).all():
            raise InputError("the mask holds NaN or infinite values: use 1 for known and 0 for missing pixels")
        if (mask == 0).flatten(1).all(1).any():
            raise InputError("the mask hides every pixel: leave some known (white or 1)")
        self.constant("mask", mask)
        self.constant("s", mask.square())

    def forward(self, x: Tensor) -> Tensor:
        return self.mask * x

    def adjoint(self, r: Tensor) -> Tensor:
        return self.mask * r

    def to_eigenbasis(self, x: Tensor) -> Tensor:
        return x

    def from_eigenbasis(self, u: Tensor) -> Tensor:
        return u

    def local_map(self, D: Tensor, data: Tensor, weights: Weights) -> Tensor:
        """x = D + phi(s) (1 - lam) k2 (m y - s D) with s = m^2, in one pass."""
        return ops.diagonal_map(D, data, self.s, weights)

    def pixel_map(self, data: Tensor) -> ops.PixelMap:
        return ops.PixelMap("diagonal_map", data, self.s)
