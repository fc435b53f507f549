"""Structure: A(x) = G_h x G_w^T on each channel, so that A^T A = (G_h^T G_h) (x) (G_w^T G_w)."""

import dataclasses
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lmaps_fast.door import product
from lmaps_fast.errors import InputError
from lmaps_fast.operators.structures.banded import Factor
from lmaps_fast.operators.structures.large import Large, project
from lmaps_fast.operators.structures.polynomial import Polynomials, photo_like, typical
from lmaps_fast.operators.structures.spectral import RANK_TOLERANCE, Spectral
from lmaps_fast.operators.structures.tiles import fold, unfold
from lmaps_fast.weights import AnyWeights, WeightTable, phi, table

# The longer side above which banded factors are treated as such. Tiles are quicker from 300 (blur) or 350 pixels
# (super-resolution) on, but the dense form is exact.
CROSSOVER = 384
EXACT = 1e-5  # of polynomials, relative to the update
LONGEST_DENSE = 16384  # the longer side up to which eigenbases of large images are made where they are asked for


class Kronecker(Spectral):
    """A separable operator; measurements are [B, C, h, w].

    In the eigenbases G^T G = V diag(s) V^T the local MAP is a filter between two pairs of small matrix products. V is
    kept thin, without the directions of eigenvalue 0; and where a factor commutes with the mirror (blur and resizing
    do) its eigenvectors are even or odd, which halves the products. p = 2 parities then, else p = 1.
    Coefficients are [B, C, p_h p_w, r_h r_w] for ranks r of each parity.

    Where both factors are banded and a side is longer than `crossover`, `Large` makes products and the local MAP, and
    the eigenbasis of the whole image waits for a solver that asks for it. Of complex factors, whose A^T A is no
    Kronecker product for real images, the local MAP is a polynomial, to 1e-5 of the update.

    Args:
        shape: (C, H, W) of the images.
        rows, columns: G_h, [h, H], and G_w, [w, W], in float64 or complex128, or the `Factor` that makes them.
        dtype, device: of the images; default float32, "cpu".
        halve: whether to use parities; default: on CPUs, since a GPU loses more by the additional launches.
        crossover: default 384.
    """

    channelwise: bool = True  # type: ignore[misc]
    exact = frozenset({"P_h", "P_w", "taps_h", "taps_w"})

    rows: Tensor  # [1 or B, 1, h, H]
    columns: Tensor  # [1 or B, 1, w, W]
    basis_h: Tensor  # V_h, [1 or B, 1, p_h, 1, H / p_h, r_h]
    basis_w: Tensor  # V_w, [1 or B, 1, 1, p_w, W / p_w, r_w]
    P_h: Tensor  # V_h^T G_h^T, in float64, [1 or B, 1, p_h, 1, r_h, h]
    P_w: Tensor
    taps_h: Tensor  # of a large image [1 or B, t] in place of all these
    taps_w: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        rows: Tensor | Factor,
        columns: Tensor | Factor,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        halve: bool | None = None,
        crossover: int = CROSSOVER,
    ) -> None:
        super().__init__(shape, dtype, device)
        self.halve = self.device.type == "cpu" if halve is None else halve
        self.factors: tuple[Factor, Factor] | None = None
        if isinstance(rows, Factor) and isinstance(columns, Factor) and max(shape[1:]) > crossover:
            self.channelwise = False  # it does that itself
            self.factors, self.prepares = (rows, columns), True
            sizes = zip(self.factors, shape[1:], strict=True)
            self.measurement_shape = (shape[0], *(-(-n // factor.stride) for factor, n in sizes))
            self.number("taps_h", rows.taps[None], torch.float64)
            self.number("taps_w", columns.taps[None], torch.float64)
            return
        G_h, G_w = (
            G.matrix(n) if isinstance(G, Factor) else G for G, n in zip((rows, columns), shape[1:], strict=True)
        )
        self.measurement_shape = (shape[0], G_h.shape[0], G_w.shape[0])
        self.complex = G_h.is_complex() or G_w.is_complex()
        if self.complex:
            self.can = frozenset({"linear", "prox"})  # type: ignore[misc]
            self.recordable = False  # type: ignore[misc]
        else:
            for name, value in self._bases(G_h, G_w).items():
                self.number(name, value, torch.float64 if name in self.exact else None)
        self.number("rows", G_h[None, None])
        self.number("columns", G_w[None, None])

    def _bases(self, G_h: Tensor, G_w: Tensor) -> dict[str, Tensor]:
        """The eigenbases, in float64."""
        s_h, V_h = eigenbasis(G_h, self.halve)
        s_w, V_w = (s_h, V_h) if torch.equal(G_h, G_w) else eigenbasis(G_w, self.halve)
        return {
            "P_h": project(G_h, V_h)[None, None, :, None],
            "P_w": project(G_w, V_w)[None, None, None],
            "basis_h": V_h[None, None, :, None],
            "basis_w": V_w[None, None, None],
            "values": (s_h[:, None, :, None] * s_w[:, None]).flatten(2).flatten(0, 1)[None],
        }

    @property
    def large(self) -> Large | None:
        """What makes products and local MAPs of one large image, worked out once; None for others."""
        if self.factors is None:
            return None
        if "_large" not in vars(self):
            self._large = Large(self.shape, *self._factors(), self.dtype, self.device, self._halved)
        return self._large

    def _factors(self) -> tuple[Factor, Factor]:
        """Those of the one image that it is for."""
        assert self.factors is not None
        rows, columns = (
            dataclasses.replace(factor, taps=taps[0].cpu())
            for factor, taps in zip(self.factors, (self.taps_h, self.taps_w), strict=True)
        )
        return rows, columns

    def _halved(self, G: Tensor) -> tuple[Tensor, Tensor]:
        return eigenbasis(G, self.halve)

    def _basis(self, name: str) -> Tensor:
        """A part of the eigenbasis of the whole image; of a large one made where it is first asked for."""
        if self.factors is None:
            return getattr(self, name)
        if "_whole" not in vars(self):
            if max(self.shape[1:]) > LONGEST_DENSE:
                raise InputError(
                    f"the singular values of an image of {self.shape[2]}x{self.shape[1]} take too much memory: use a "
                    f"solver that does not ask for them, such as lmaps, or images of at most {LONGEST_DENSE} pixels a "
                    f"side"
                )
            each = [self.image(n)._factors() for n in range(self.batch)]
            bases = [
                self._bases(*(factor.matrix(n) for factor, n in zip(f, self.shape[1:], strict=True))) for f in each
            ]
            filled = self.aligned(bases) if len(bases) > 1 else bases
            whole = {key: torch.cat([one[key] for one in filled]) for key in filled[0]}
            types = {key: torch.float64 if key in self.exact else self.dtype for key in whole}
            self._whole = {key: value.to(self.device, types[key]) for key, value in whole.items()}
        return self._whole[name]

    @property
    def s(self) -> Tensor:  # type: ignore[override]
        return self._basis("values")

    def largest_eigenvalues(self) -> list[float]:
        if self.factors is not None:
            return [self._one(n).s.max().item() for n in range(self.batch)]
        if self.complex:
            return [self.image(n).polynomials.largest for n in range(self.batch)]
        return super().largest_eigenvalues()

    def _one(self, n: int) -> Large:
        large = self.image(n).large
        assert large is not None
        return large

    def _each(self, x: Tensor, function: Callable[[Large, Tensor], Tensor]) -> Tensor:
        """What `Large` makes of each image; all at once where they share it."""
        if self.batch == 1:
            return function(self._one(0), x)
        return torch.cat([function(self._one(n), x[n : n + 1]) for n in range(len(x))])

    def forward(self, x: Tensor) -> Tensor:
        if self.factors is not None:
            return self._each(x, Large.forward)
        return product(self.rows, x.to(self.rows.dtype), self.columns.mT.to(self.rows.dtype))

    def adjoint(self, r: Tensor) -> Tensor:
        if self.factors is not None:
            return self._each(r, Large.adjoint)
        back = product(self.rows.mH, r, self.columns.conj())
        return back.real.contiguous() if back.is_complex() else back

    def normal(self, v: Tensor) -> Tensor:
        """A^T A v."""
        return self.adjoint(self.forward(v))

    def prepare(self, y: Tensor) -> Tensor:
        return self._each(y, Large.prepare) if self.factors is not None else self.precompute(y)

    def local_map(self, D: Tensor, data: Tensor, weights: AnyWeights) -> Tensor:
        known = table(weights, D.device)
        if self.factors is None and not self.complex:
            return super().local_map(D, data, known)
        if not len(known.values) == self.batch == 1:
            one = (slice(n, n + 1) for n in range(len(D)))
            return torch.cat([self.image(n.start).local_map(D[n], data[n], known.image(n.start)) for n in one])
        if self.factors is not None:
            return self._one(0).local_map(D, data, known)
        return self._by_polynomials(D, data, known)

    def _by_polynomials(self, D: Tensor, y: Tensor, weights: WeightTable) -> Tensor:
        w, g = weights.single, self.adjoint(y - self.forward(D))
        return self.polynomials.add(D, g, lambda s: w.c * phi(s, w), w.steps, EXACT)

    @property
    def polynomials(self) -> Polynomials:
        """Those of the A^T A of complex factors."""
        if "_polynomials" not in vars(self):
            x = photo_like((1, *self.shape[1:])).to(self.device, self.dtype)
            self._polynomials = Polynomials(self.normal, lambda: self.adjoint(typical(self.forward, x)), self.name)
        return self._polynomials

    def prox(self, v: Tensor, data: Tensor, gamma: float | Tensor) -> Tensor:
        if self.factors is not None or not self.complex:
            return super().prox(v, data, gamma)
        each = [float(g) for g in (gamma.flatten() if isinstance(gamma, Tensor) else [gamma])]
        parts = []
        for n in range(len(v)):
            g, A = each[n % len(each)], self.image(n)
            residual = A.adjoint(data[n : n + 1] - A.forward(v[n : n + 1]))
            parts.append(A.polynomials.add(v[n : n + 1], residual, shrink(g), tolerance=EXACT))
        return torch.cat(parts) if parts else v

    def to_eigenbasis(self, x: Tensor) -> Tensor:
        V_h, V_w = self._basis("basis_h"), self._basis("basis_w")
        parts = fold(fold(x, -2, V_h.shape[2]), -1, V_w.shape[3])  # [B, C, p_h, p_w, H / p_h, W / p_w]
        return product(V_h.mT, parts, V_w).flatten(4).flatten(2, 3)

    def from_eigenbasis(self, u: Tensor) -> Tensor:
        V_h, V_w = self._basis("basis_h"), self._basis("basis_w")
        parts = u.view(*u.shape[:2], V_h.shape[2], V_w.shape[3], V_h.shape[-1], V_w.shape[-1])
        return unfold(unfold(product(V_h, parts, V_w.mT), -1), -2)

    def precompute(self, y: Tensor) -> Tensor:
        """V^T A^T y, in float64: where s is small the filter amplifies this term, and a float32 product would leave it
        a rounding error that does not shrink with s. Of complex factors y itself."""
        if self.factors is None and self.complex:
            return y
        data = product(self._basis("P_h"), y.double()[:, :, None, None], self._basis("P_w").mT)
        return data.flatten(4).flatten(2, 3).to(y)

    def aligned(self, numbers: Sequence[dict[str, Tensor]]) -> Sequence[dict[str, Tensor]]:
        """Ranks and taps may differ: V, P and s are filled up with zeros, which move nothing. Parities may not."""
        if "basis_h" not in numbers[0]:
            return numbers
        r_h, r_w = (max(each[name].shape[-1] for each in numbers) for name in ("basis_h", "basis_w"))
        filled = []
        for each in numbers:
            down, across = r_h - each["basis_h"].shape[-1], r_w - each["basis_w"].shape[-1]
            s = each["values"].unflatten(-1, (each["basis_h"].shape[-1], each["basis_w"].shape[-1]))
            filled.append(
                {
                    **each,
                    "basis_h": F.pad(each["basis_h"], (0, down)),
                    "basis_w": F.pad(each["basis_w"], (0, across)),
                    "P_h": F.pad(each["P_h"], (0, 0, 0, down)),
                    "P_w": F.pad(each["P_w"], (0, 0, 0, across)),
                    "values": F.pad(s, (0, across, 0, down)).flatten(-2),
                }
            )
        return filled


def shrink(gamma: float) -> Callable[[Tensor], Tensor]:
    """gamma / (1 + gamma s), of eigenvalues s."""
    return lambda s: gamma / (1 + gamma * s)


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
