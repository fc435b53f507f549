"""Structure: a matrix for each row of the image, as in MRI with vertical lines of k-space."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lmaps_fast.errors import InputError
from lmaps_fast.operators.structures.spectral import Spectral


class BlockDiagonal(Spectral):
    """A maps row i of the image, all channels of it, by its own matrix. blocks: [H, m, C W]; measurements: [B, H, m].

    A^T A has one block of C W x C W for each row, decomposed once. Coefficients are [B, H, C W].
    """

    blocks: Tensor
    V: Tensor

    def __init__(
        self, shape: Sequence[int], blocks: Tensor, dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> None:
        super().__init__(shape, dtype, device)
        channels, height, width = shape
        if blocks.dim() != 3 or blocks.shape[::2] != (height, channels * width):
            raise InputError(
                f"the blocks have shape {list(blocks.shape)}: "
                f"images {tuple(shape)} need [{height}, m, {channels * width}]"
            )
        self.measurement_shape = tuple(blocks.shape[:2])
        s, V = torch.linalg.eigh(blocks.double().mT @ blocks.double())
        for name, value in (("blocks", blocks), ("V", V), ("s", s.clamp(min=0))):
            self.constant(name, value)

    def forward(self, x: Tensor) -> Tensor:
        return self._multiply(self.blocks, rows_first(x))

    def adjoint(self, r: Tensor) -> Tensor:
        return self._image(self._multiply(self.blocks.mT, r))

    def to_eigenbasis(self, x: Tensor) -> Tensor:
        return self._multiply(self.V.mT, rows_first(x))

    def from_eigenbasis(self, u: Tensor) -> Tensor:
        return self._image(self._multiply(self.V, u))

    @staticmethod
    def _multiply(matrices: Tensor, vectors: Tensor) -> Tensor:
        """[H, m, n] times [B, H, n]: [B, H, m], as one product for each row and all images."""
        return (matrices @ vectors.permute(1, 2, 0)).permute(2, 0, 1)

    def _image(self, rows: Tensor) -> Tensor:
        channels, height, width = self.shape
        return rows.reshape(-1, height, channels, width).transpose(1, 2)


def rows_first(x: Tensor) -> Tensor:
    """[B, C, H, W] to [B, H, C W]."""
    return x.transpose(1, 2).flatten(2)
