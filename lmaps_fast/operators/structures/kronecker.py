"""Structure: A(x) = G_h x G_w^T on each channel, so that A^T A = (G_h^T G_h) (x) (G_w^T G_w)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lmaps_fast.door import product
from lmaps_fast.operators.structures.spectral import RANK_TOLERANCE, Spectral


class Kronecker(Spectral):
    """A separable operator; measurements are [B, C, h, w].

    In the eigenbases G^T G = V diag(s) V^T the local MAP is a filter between two pairs of small matrix products. V is
    kept thin, without the directions of eigenvalue 0; and where a factor commutes with the mirror (blur and resizing
    do) its eigenvectors are even or odd, which halves the products. p = 2 parities then, else p = 1.
    Coefficients are [B, C, p_h p_w, r_h r_w] for ranks r of each parity.

    Args:
        shape: (C, H, W) of the images.
        rows, columns: G_h, [h, H], and G_w, [w, W], in float64.
        dtype, device: of the images; default float32, "cpu".
        halve: whether to use parities; default: on CPUs, since a GPU loses more by the additional launches.
    """

    channelwise = True
    exact = frozenset({"P_h", "P_w"})

    rows: Tensor  # [1 or B, 1, h, H]
    columns: Tensor  # [1 or B, 1, w, W]
    V_h: Tensor  # [1 or B, 1, p_h, 1, H / p_h, r_h]
    V_w: Tensor  # [1 or B, 1, 1, p_w, W / p_w, r_w]
    P_h: Tensor  # V_h^T G_h^T, in float64, [1 or B, 1, p_h, 1, r_h, h]
    P_w: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        rows: Tensor,
        columns: Tensor,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        halve: bool | None = None,
    ) -> None:
        super().__init__(shape, dtype, device)
        self.measurement_shape = (shape[0], rows.shape[0], columns.shape[0])
        halve = self.device.type == "cpu" if halve is None else halve
        s_h, V_h = eigenbasis(rows, halve)
        s_w, V_w = (s_h, V_h) if torch.equal(rows, columns) else eigenbasis(columns, halve)
        self.number("P_h", project(rows, V_h)[None, None, :, None], torch.float64)
        self.number("P_w", project(columns, V_w)[None, None, None], torch.float64)
        self.number("rows", rows[None, None])
        self.number("columns", columns[None, None])
        self.number("V_h", V_h[None, None, :, None])
        self.number("V_w", V_w[None, None, None])
        self.number("s", (s_h[:, None, :, None] * s_w[:, None]).flatten(2).flatten(0, 1)[None])

    def forward(self, x: Tensor) -> Tensor:
        return product(self.rows, x, self.columns.mT)

    def adjoint(self, r: Tensor) -> Tensor:
        return product(self.rows.mT, r, self.columns)

    def to_eigenbasis(self, x: Tensor) -> Tensor:
        p_h, p_w = self.V_h.shape[2], self.V_w.shape[3]
        parts = fold(fold(x, -2, p_h), -1, p_w)  # [B, C, p_h, p_w, H / p_h, W / p_w]
        return product(self.V_h.mT, parts, self.V_w).flatten(4).flatten(2, 3)

    def from_eigenbasis(self, u: Tensor) -> Tensor:
        p_h, p_w = self.V_h.shape[2], self.V_w.shape[3]
        parts = u.view(*u.shape[:2], p_h, p_w, self.V_h.shape[-1], self.V_w.shape[-1])
        return unfold(unfold(product(self.V_h, parts, self.V_w.mT), -1), -2)

    def precompute(self, y: Tensor) -> Tensor:
        """V^T A^T y, in float64: where s is small the filter amplifies this term, and a float32 product would leave it
        a rounding error that does not shrink with s."""
        data = product(self.P_h, y.double()[:, :, None, None], self.P_w.mT)
        return data.flatten(4).flatten(2, 3).to(y)

    def aligned(self, numbers: Sequence[dict[str, Tensor]]) -> Sequence[dict[str, Tensor]]:
        """Ranks may differ: V, P and s are filled up with zeros, which move nothing. Parities may not."""
        r_h, r_w = (max(each[name].shape[-1] for each in numbers) for name in ("V_h", "V_w"))
        filled = []
        for each in numbers:
            down, across = r_h - each["V_h"].shape[-1], r_w - each["V_w"].shape[-1]
            s = each["s"].unflatten(-1, (each["V_h"].shape[-1], each["V_w"].shape[-1]))
            filled.append(
                {
                    **each,
                    "V_h": F.pad(each["V_h"], (0, down)),
                    "V_w": F.pad(each["V_w"], (0, across)),
                    "P_h": F.pad(each["P_h"], (0, 0, 0, down)),
                    "P_w": F.pad(each["P_w"], (0, 0, 0, across)),
                    "s": F.pad(s, (0, across, 0, down)).flatten(-2),
                }
            )
        return filled


def eigenbasis(G: Tensor, halve: bool = True) -> tuple[Tensor, Tensor]:
    """Eigenvalues [p, r] and eigenvectors [p, n / p, r] of G^T G, for each parity, without those of eigenvalue 0.

    A vector v of parity +1 or -1 stands for the unit vector (v, +-mirrored v); the factor 1 / sqrt(2) is in v.
    """
    n = G.shape[1]
    if halve and n % 2 == 0 and torch.allclose(G.flip(0, 1), G, rtol=0, atol=1e-14 * G.abs().max().item()):
        left, right = G[:, : n // 2], G[:, n // 2 :].flip(1)
        parts, scale = torch.stack((left + right, left - right)) * 0.5**0.5, 0.5**0.5
    else:
        parts, scale = G[None], 1.0
    s, V = torch.linalg.eigh(parts.mT @ parts)
    sigma = (parts @ V).norm(dim=1)  # singular values, small ones more exactly than sqrt(s)
    rank = int((sigma > RANK_TOLERANCE * sigma.max()).sum(1).max())
    return s[:, -rank:].clamp(min=0), scale * V[:, :, -rank:]


def project(G: Tensor, V: Tensor) -> Tensor:
    """V^T G^T, [p, r, m]."""
    return (fold(G[None, None], -1, len(V))[0, 0] @ V).mT


def fold(x: Tensor, dim: int, parities: int) -> Tensor:
    """Even and odd part of x along dim -2 or -1, of half its length each: a new dimension before those two."""
    if parities == 1:
        return x.unsqueeze(-3)
    left, right = x.chunk(2, dim)
    right = right.flip(dim)
    return torch.stack((left + right, left - right), -3)


def unfold(parts: Tensor, dim: int) -> Tensor:
    """The inverse of `fold`, up to its factor of 2."""
    if parts.shape[-3] == 1:
        return parts.squeeze(-3)
    even, odd = parts.unbind(-3)
    return torch.cat((even + odd, (even - odd).flip(dim)), dim)
