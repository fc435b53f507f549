"""Structure: A(x) = m x with a mask m over pixels, so that every pixel is a problem of its own."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lmaps_fast.errors import InputError
from lmaps_fast.operators.structures.spectral import Spectral
from lmaps_fast.ops import PixelMap
from lmaps_fast.weights import AnyWeights


class Diagonal(Spectral):
    """A(x) = m x. The eigenbasis is that of the pixels, so the local MAP is one pass over the image.

    Args:
        shape: (C, *spatial) of the images.
        mask: m: [*spatial] or [1, *spatial], shared by the channels; [C, *spatial], one for each channel; or
            [B, 1 or C, *spatial], one for each image. A tensor or an array; of whole numbers 0 is missing and the
            largest value (1, True or 255) is known.
        dtype, device: of the images; default float32, "cpu".

    Errors: InputError for a mask of another shape, with NaN, or that hides every pixel.
    """

    image_like = True

    mask: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        mask: Tensor,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(shape, dtype, device)
        mask = self.fitted(torch.as_tensor(mask))
        if not mask.is_floating_point():
            mask = binary(mask)
        if not torch.isfinite(mask).all():
            raise InputError("the mask holds NaN or infinite values: use 1 for known and 0 for missing pixels")
        if (mask == 0).flatten(1).all(1).any():
            raise InputError("the mask hides every pixel: leave some known (white or 1)")
        self.number("mask", mask.double())
        self.number("s", mask.double().square())

    def fitted(self, mask: Tensor) -> Tensor:
        """The mask as [1 or B, 1 or C, *spatial]."""
        spatial, channels = self.shape[1:], self.shape[0]
        shape = tuple(mask.shape)
        if shape == spatial:
            return mask[None, None]
        if len(shape) == len(self.shape) and shape[0] in (1, channels) and shape[1:] == spatial:
            return mask[None]
        if len(shape) == len(self.shape) + 1 and shape[0] and shape[1] in (1, channels) and shape[2:] == spatial:
            return mask
        raise InputError(
            f"the mask has shape {list(shape)} but the image is {list(self.shape)}: give a mask of the image's size, "
            f"{list(spatial)}, {list(self.shape)} or a batch of these"
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.mask * x

    def adjoint(self, r: Tensor) -> Tensor:
        return self.mask * r

    def to_eigenbasis(self, x: Tensor) -> Tensor:
        return x

    def from_eigenbasis(self, u: Tensor) -> Tensor:
        return u

    def local_map(self, D: Tensor, data: Tensor, weights: AnyWeights) -> Tensor:
        """x = D + phi(s) (1 - lam) k2 (m y - s D) with s = m^2, in one pass."""
        return self.pixel_map(data)(D, weights)

    def pixel_map(self, data: Tensor) -> PixelMap:
        return PixelMap("diagonal_map", data, (self.s,))


def binary(mask: Tensor) -> Tensor:
    """A mask of whole numbers or truth values as zeros and ones. Raises InputError if it has more than two values."""
    values = mask.unique().tolist()
    if len(values) > 2 or (len(values) == 2 and values[0] != 0) or values[0] < 0:
        raise InputError(
            "the mask holds whole numbers between its least and its greatest: give 0 for missing and one value, such "
            "as 1 or 255, for known pixels, or a mask of floating point"
        )
    return mask != 0
