"""Structure: A as a matrix, small enough for a singular value decomposition."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from lmaps_fast.errors import InputError
from lmaps_fast.operators.structures.spectral import RANK_TOLERANCE, Spectral


class Dense(Spectral):
    """A(x) = matrix @ x flattened. matrix: [m, C H W]; measurements are [B, m].

    V is thin: it has as many columns as the matrix has rank. Coefficients are [B, 1, rank].
    """

    matrix: Tensor
    V: Tensor

    def __init__(
        self, shape: Sequence[int], matrix: Tensor, dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> None:
        super().__init__(shape, dtype, device)
        if matrix.dim() != 2 or matrix.shape[1] != prod(shape):
            raise InputError(
                f"the matrix has shape {list(matrix.shape)}: images {tuple(shape)} need [m, {prod(shape)}]"
            )
        self.measurement_shape = (len(matrix),)
        _, sigma, V = torch.linalg.svd(matrix.double(), full_matrices=False)
        rank = int((sigma > RANK_TOLERANCE * sigma.max()).sum())
        self.constant("matrix", matrix)
        self.constant("V", V[:rank].T)
        self.constant("s", sigma[None, :rank].square())

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.matrix.T

    def adjoint(self, r: Tensor) -> Tensor:
        return (r @ self.matrix).view(-1, *self.shape)

    def to_eigenbasis(self, x: Tensor) -> Tensor:
        return (x.flatten(1) @ self.V)[:, None]

    def from_eigenbasis(self, u: Tensor) -> Tensor:
        return (u[:, 0] @ self.V.T).view(-1, *self.shape)
