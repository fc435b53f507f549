"""Structure: A^T A = V diag(s) V^T with a known orthonormal V, so that any function of it is one filter."""

from torch import Tensor

from lmaps_fast import ops
from lmaps_fast.operators.base import Linear
from lmaps_fast.weights import AnyWeights

RANK_TOLERANCE = 1e-12  # singular values (or eigenvalues) below this share of the largest are rounding errors of 0


class Spectral(Linear):
    """A linear operator with a known eigenbasis V of A^T A (the right singular vectors of A).

    s: eigenvalues, [1 or B, *coefficients], in the shape of the last dimensions of the coefficients V^T x. V may be
    thin: directions that it leaves out have eigenvalue 0 and stay where they are. `data` of the methods is
    `precompute(y)`, the spectrum of A^T y.
    """

    can = frozenset({"linear", "prox", "pinv", "spectrum"})
    collapses = True

    s: Tensor

    def to_eigenbasis(self, x: Tensor) -> Tensor:
        """V^T x, [B, ..., *coefficients]."""
        raise NotImplementedError

    def from_eigenbasis(self, u: Tensor) -> Tensor:
        """V u, images [B, C, *spatial]."""
        raise NotImplementedError

    # What the filters below work in: the eigenbasis, unless a structure has a quicker transform that also
    # diagonalizes A^T A.
    def spectrum(self, x: Tensor) -> Tensor:
        return self.to_eigenbasis(x)

    def from_spectrum(self, u: Tensor) -> Tensor:
        return self.from_eigenbasis(u)

    @property
    def spectrum_s(self) -> Tensor:
        return self.s

    def largest_eigenvalues(self) -> list[float]:
        return self.s.flatten(1).amax(1).tolist()

    def precompute(self, y: Tensor) -> Tensor:
        return self.spectrum(self.adjoint(y))

    def local_map(self, D: Tensor, data: Tensor, weights: AnyWeights) -> Tensor:
        """x = D + V phi(s) (1 - lam) k2 (V^T A^T y - s V^T D)."""
        return D + self.from_spectrum(ops.spectral_update(self.spectrum(D), data, self.spectrum_s, weights))

    def prox(self, v: Tensor, data: Tensor, gamma: float | Tensor) -> Tensor:
        """argmin_x gamma/2 |A x - y|^2 + 1/2 |x - v|^2 = (gamma A^T A + I)^{-1} (gamma A^T y + v).

        Args:
            v: images [B, C, *spatial].
            data: `precompute(y)`.
            gamma: not negative; a number for all images, or [B, 1, ...].
        """
        u = self.spectrum(v)
        s, gamma = along(self.spectrum_s, u), column(gamma, u)
        return v + self.from_spectrum(gamma * (data - s * u) / (1 + gamma * s))

    def pinv(self, data: Tensor) -> Tensor:
        """The pseudo-inverse A^+ y: of all x that fit y best the one of least norm. data: `precompute(y)`."""
        return self.from_spectrum(divide(data, along(self.spectrum_s, data)))

    @property
    def singular_values(self) -> Tensor:
        """sqrt(s), [1 or B, *coefficients]: the singular values of A, one for each coefficient of `to_eigenbasis`."""
        return self.s.sqrt()

    def measured_coefficients(self, y: Tensor) -> Tensor:
        """U^T y of A = U diag(sqrt(s)) V^T: what A makes of the coefficients V^T x, 0 where s is 0."""
        u = self.to_eigenbasis(self.adjoint(y))
        return divide(u, along(self.singular_values, u))


def along(s: Tensor, u: Tensor) -> Tensor:
    """s, [1 or B, *coefficients], with dimensions of 1 after the first, so that it broadcasts with coefficients u."""
    return s.view(len(s), *[1] * (u.dim() - s.dim()), *s.shape[1:])


def column(value: float | Tensor, like: Tensor) -> float | Tensor:
    """A number for each image, [B, 1, ...], in as many dimensions as `like`; one number as it is."""
    return value.reshape(-1, *[1] * (like.dim() - 1)) if isinstance(value, Tensor) and value.dim() else value


def divide(data: Tensor, by: Tensor) -> Tensor:
    """data / by, 0 where `by` is 0 but for rounding."""
    known = by > RANK_TOLERANCE * by.flatten(1).amax(1).view(-1, *[1] * (by.dim() - 1))
    return data.where(known, 0) / by.where(known, 1)
