"""Structure: a matrix for each row of the image, as in MRI with vertical lines of k-space."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lmaps_fast.door import product
from lmaps_fast.errors import InputError
from lmaps_fast.operators.structures.dense import in_parts
from lmaps_fast.operators.structures.spectral import Spectral


class BlockDiagonal(Spectral):
    """A maps row i of the image, all channels of it, by its own matrix; measurements are [B, H, m].

    Complex blocks map images to complex measurements; since images are real, A^T A is the real part of M^H M: one block
    of C W x C W for each row, decomposed once. Coefficients are [B, H, C W].

    Args:
        shape: (C, H, W) of the images.
        blocks: [H, m, C W], real or complex.
        dtype, device: of the images; default float32, "cpu".

    Errors: InputError for blocks of another shape.
    """

    blocks: Tensor  # [1 or B, H, m, C W]
    V: Tensor  # [1 or B, H, C W, C W]

    def __init__(
        self,
        shape: Sequence[int],
        blocks: Tensor,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(shape, dtype, device)
        channels, height, width = shape
        if blocks.dim() != 3 or blocks.shape[::2] != (height, channels * width):
            raise InputError(
                f"the blocks have shape {list(blocks.shape)}: "
                f"images {tuple(shape)} need [{height}, m, {channels * width}]"
            )
        self.measurement_shape = tuple(blocks.shape[:2])
        parts = in_parts(blocks)
        s, V = torch.linalg.eigh(parts.mT @ parts)
        for name, value in (("blocks", blocks), ("V", V), ("s", s.clamp(min=0))):
            self.number(name, value[None])

    def forward(self, x: Tensor) -> Tensor:
        return multiply(self.blocks, rows_first(x).to(self.blocks.dtype))

    def adjoint(self, r: Tensor) -> Tensor:
        back = multiply(self.blocks.mH, r)
        return self._image(back.real if back.is_complex() else back)

    def to_eigenbasis(self, x: Tensor) -> Tensor:
        return multiply(self.V.mT, rows_first(x))

    def from_eigenbasis(self, u: Tensor) -> Tensor:
        return self._image(multiply(self.V, u))

    def _image(self, rows: Tensor) -> Tensor:
        channels, height, width = self.shape
        return rows.reshape(-1, height, channels, width).transpose(1, 2).contiguous()


def multiply(matrices: Tensor, vectors: Tensor) -> Tensor:
    """[1 or B, H, m, n] times [B, H, n]: [B, H, m]. Shared matrices make one product for each row and all images."""
    if len(matrices) == 1:
        return product(matrices[0], vectors.permute(1, 2, 0)).permute(2, 0, 1)
    return product(matrices, vectors[..., None])[..., 0]


def rows_first(x: Tensor) -> Tensor:
    """[B, C, H, W] to [B, H, C W]."""
    return x.transpose(1, 2).flatten(2)
