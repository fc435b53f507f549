"""A separable operator on a large image: banded products, and the local MAP on tiles. Linear in pixels."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product as product_of

import torch
from torch import Tensor

from lmaps_fast import ops
from lmaps_fast.operators.structures import tiles
from lmaps_fast.operators.structures.banded import Factor, add_product, product
from lmaps_fast.operators.structures.polynomial import Polynomials, photo_like, typical
from lmaps_fast.weights import WeightTable, phi


class Large:
    """A(x) = G_h x G_w^T with banded factors.

    Where A keeps the pixels, x = D + f(A^T A) g is made on tiles of the image; where it makes the image smaller, on
    tiles of the measurement, as x = D + A^T f(A A^T) (y - A D), which is less to do.

    Args:
        shape: (C, H, W).
        rows, columns: G_h and G_w, of one stride.
        dtype, device: of images.
        eigenbasis: G -> eigenvalues and eigenvectors of G^T G, in float64.
    """

    def __init__(
        self,
        shape: Sequence[int],
        rows: Factor,
        columns: Factor,
        dtype: torch.dtype,
        device: torch.device,
        eigenbasis: Callable[[Tensor], tuple[Tensor, Tensor]],
    ) -> None:
        self.shape, self.dtype, self.device = tuple(shape), dtype, device
        self.measured = rows.stride > 1
        sizes = tuple(zip((rows, columns), shape[1:], strict=True))
        self.A = [factor.bands(n, dtype, device) for factor, n in sizes]
        self.At = [factor.transposed(n, dtype, device) for factor, n in sizes]
        made = [tiles.axis(factor, n, eigenbasis, self.measured) for factor, n in sizes]
        self.s = tiles.eigenvalues(*(axis for axis, _ in made)).to(device, dtype)
        self.rows, self.columns = (axis._replace(V=axis.V.to(device, dtype).contiguous()) for axis, _ in made)
        # V^T G^T in float64: see `Kronecker.precompute`.
        self.P = [] if self.measured else [project(G, axis.V).to(device) for axis, G in made]
        self.polynomials = Polynomials(self.normal, self._start, "the separable operator")

    def forward(self, x: Tensor) -> Tensor:
        return product(self.A[0], x, self.A[1])

    def adjoint(self, r: Tensor) -> Tensor:
        return product(self.At[0], r, self.At[1])

    def normal(self, v: Tensor) -> Tensor:
        return self.adjoint(self.forward(v))

    def prepare(self, y: Tensor) -> Tensor:
        """y itself, or V^T A^T y of each tile, [B, C, rows of tiles, tiles, p_w p_h r_h, r_w]."""
        if self.measured:
            return y
        coefficients = [
            tiles.analyse(y[..., row.start : row.stop, :].double(), self.columns.tiles, self.P[0], self.P[1].mT).to(y)
            for row in self.rows.tiles
        ]
        return torch.stack(coefficients, 2)

    def local_map(self, D: Tensor, data: Tensor, weights: WeightTable) -> Tensor:
        """x = D + phi(A^T A) (1 - lam) k2 A^T (y - A D), to tiles.TOLERANCE of the update."""
        if weights.most > tiles.MOST_STEPS:
            return self._by_polynomials(D, data, weights)
        if self.measured:
            r = add_product(data.clone(), self.A[0], D, self.A[1], alpha=-1)
            v = torch.empty_like(r)
            for kept, piece in tiles.pieces(
                r, self.rows, self.columns, lambda u, _: self._filter(u.new_zeros(()), u, weights)
            ):
                v[..., kept, :] = piece
            return add_product(D.clone(), self.At[0], v, self.At[1])
        x = torch.empty_like(D)
        for image, channel in product_of(range(len(D)), range(D.shape[1])):  # alone they stay in the cache
            one = (slice(image, image + 1), slice(channel, channel + 1))
            b, part, target = data[one], D[one], x[one]
            for kept, piece in tiles.pieces(part, self.rows, self.columns, partial(self._of_row, b, weights)):
                torch.add(part[..., kept, :], piece, out=target[..., kept, :])
        return x

    def _of_row(self, b: Tensor, weights: WeightTable, u: Tensor, row: int) -> Tensor:
        return self._filter(u, b[:, :, row], weights)

    def _filter(self, u: Tensor, b: Tensor, weights: WeightTable) -> Tensor:
        return ops.spectral_update(u.expand_as(b), b, self.s[None], weights)

    def _by_polynomials(self, D: Tensor, data: Tensor, weights: WeightTable) -> Tensor:
        """The same by products with A and A^T alone, for steps beyond those that tiles are cut for."""
        if self.measured:
            g = self.adjoint(add_product(data.clone(), self.A[0], D, self.A[1], alpha=-1))
        else:
            g = torch.empty_like(D)
            for kept, piece in tiles.pieces(D, self.rows, self.columns, lambda _, i: data[:, :, i]):
                g[..., kept, :] = piece
            g -= self.normal(D)
        w = weights.single
        return self.polynomials.add(D, g, lambda s: w.c * phi(s, w), w.steps, tiles.TOLERANCE)

    def _start(self) -> Tensor:
        x = photo_like((1, *self.shape[1:])).to(self.device, self.dtype)
        return self.adjoint(typical(self.forward, x))


def project(G: Tensor, V: Tensor) -> Tensor:
    """V^T G^T, [p, r, m]."""
    return (tiles.fold(G[None, None], -1, len(V))[0, 0] @ V).mT
