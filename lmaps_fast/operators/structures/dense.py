"""Structure: A as a matrix, small enough for a singular value decomposition."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from lmaps_fast.door import product
from lmaps_fast.errors import InputError
from lmaps_fast.operators.structures.spectral import RANK_TOLERANCE, Spectral


class Dense(Spectral):
    """A(x) = matrix @ x flattened; measurements are [B, m].

    A complex matrix maps images to complex measurements; since images are real, A^T A is the real part of M^H M. V is
    thin: it has as many columns as that has rank. Coefficients are [B, 1, rank].

    Args:
        shape: (C, *spatial) of the images.
        matrix: [m, C * spatial], real or complex.
        dtype, device: of the images; default float32, "cpu".

    Errors: InputError for a matrix of another width.
    """

    matrix: Tensor  # [1 or B, m, n]
    V: Tensor  # [1 or B, n, rank]

    def __init__(
        self,
        shape: Sequence[int],
        matrix: Tensor,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(shape, dtype, device)
        if matrix.dim() != 2 or matrix.shape[1] != prod(shape):
            raise InputError(
                f"the matrix has shape {list(matrix.shape)}: images {tuple(shape)} need [m, {prod(shape)}]"
            )
        self.measurement_shape = (len(matrix),)
        _, sigma, V = torch.linalg.svd(in_parts(matrix), full_matrices=False)
        rank = int((sigma > RANK_TOLERANCE * sigma.max()).sum())
        self.number("matrix", matrix[None])
        self.number("V", V[:rank].T[None])
        self.number("s", sigma[None, None, :rank].square())

    def forward(self, x: Tensor) -> Tensor:
        return times(x.flatten(1).to(self.matrix.dtype), self.matrix.mT)

    def adjoint(self, r: Tensor) -> Tensor:
        back = times(r, self.matrix.conj())
        return (back.real if back.is_complex() else back).reshape(-1, *self.shape)

    def to_eigenbasis(self, x: Tensor) -> Tensor:
        return times(x.flatten(1), self.V)[:, None]

    def from_eigenbasis(self, u: Tensor) -> Tensor:
        return times(u[:, 0], self.V.mT).view(-1, *self.shape)

    def aligned(self, numbers: Sequence[dict[str, Tensor]]) -> Sequence[dict[str, Tensor]]:
        """Ranks may differ: V and s are filled up with zeros, which move nothing."""
        rank = max(each["V"].shape[-1] for each in numbers)
        return [{**each, **{name: widened(each[name], rank) for name in ("V", "s")}} for each in numbers]


def times(vectors: Tensor, matrices: Tensor) -> Tensor:
    """Rows [B, n] times [1 or B, n, m]: [B, m]. A shared matrix makes one product for all."""
    if len(matrices) == 1:
        return product(vectors, matrices[0])
    return product(vectors[:, None], matrices)[:, 0]


def in_parts(matrix: Tensor) -> Tensor:
    """[..., m, n] in float64; of a complex one [..., 2 m, n], its real and its imaginary part one above the other."""
    return torch.cat((matrix.real, matrix.imag), -2).double() if matrix.is_complex() else matrix.double()


def widened(x: Tensor, width: int) -> Tensor:
    """x with zeros at the end of its last dimension."""
    return torch.nn.functional.pad(x, (0, width - x.shape[-1]))
