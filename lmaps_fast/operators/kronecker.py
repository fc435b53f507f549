"""Structure: A(x) = G_h x G_w^T on each channel, so that A^T A = (G_h^T G_h) (x) (G_w^T G_w)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lmaps_fast import ops
from lmaps_fast.local_map import Weights
from lmaps_fast.operators.base import Linear


class Kronecker(Linear):
    """A separable operator. rows G_h: [h, H], columns G_w: [w, W], in float64; measurements are [B, C, h, w].

    In the eigenbases G^T G = V diag(s) V^T the local MAP is a filter between two pairs of small matrix products.
    """

    rows: Tensor
    columns: Tensor
    V_h: Tensor
    V_w: Tensor
    s: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        rows: Tensor,
        columns: Tensor,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
    ) -> None:
        super().__init__(shape, dtype, device)
        self.measurement_shape = (shape[0], rows.shape[0], columns.shape[0])
        s_h, V_h = torch.linalg.eigh(rows.T @ rows)
        s_w, V_w = (s_h, V_h) if torch.equal(rows, columns) else torch.linalg.eigh(columns.T @ columns)
        self._projections = (V_h.T @ rows.T, V_w.T @ columns.T)
        for name, value in (
            ("rows", rows),
            ("columns", columns),
            ("V_h", V_h),
            ("V_w", V_w),
            ("s", torch.outer(s_h.clamp(min=0), s_w.clamp(min=0))),
        ):
            self.constant(name, value)

    def forward(self, x: Tensor) -> Tensor:
        return self.rows @ x @ self.columns.T

    def adjoint(self, r: Tensor) -> Tensor:
        return self.rows.T @ r @ self.columns

    def to_eigenbasis(self, x: Tensor) -> Tensor:
        return self.V_h.T @ x @ self.V_w

    def from_eigenbasis(self, u: Tensor) -> Tensor:
        return self.V_h @ u @ self.V_w.T

    def precompute(self, y: Tensor) -> Tensor:
        """A^T y in the eigenbasis, [B, C, H, W].

        In float64: where s is small the filter amplifies this term, and a float32 product would leave it a rounding
        error that does not shrink with s.
        """
        P_h, P_w = self._projections
        return (P_h @ y.to("cpu", torch.float64) @ P_w.T).to(y)

    def local_map(self, D: Tensor, b: Tensor, weights: Weights) -> Tensor:
        """x = D + V phi(s) (1 - lam) k2 (b - s V^T D), with V = V_h (x) V_w."""
        return D + self.from_eigenbasis(ops.spectral_update(self.to_eigenbasis(D), b, self.s, weights))
