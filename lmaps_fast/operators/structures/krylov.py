"""Structure: any linear operator of which only A and A^T are known, by polynomials of A^T A."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lmaps_fast.operators.base import Linear
from lmaps_fast.operators.structures.polynomial import Polynomials, photo_like, typical
from lmaps_fast.weights import AnyWeights, phi, table


class Krylov(Linear):
    """A linear operator with `forward` and `adjoint`.

    The update phi(A^T A) (1 - lam) k2 g, g = A^T (y - A D), is a polynomial of degree K - 1 in A^T A applied to g. It
    is expanded in the polynomials that are orthonormal for the spectrum of A^T A, by their recurrence

        beta_j p_{j+1} = (A^T A - alpha_j) p_j - beta_{j-1} p_{j-1},  p_0 = g,

    with the coefficients phi(T) e_1, where T is the tridiagonal matrix of alpha and beta. These come from a Lanczos
    process on a random measurement, once per operator. So a local MAP takes no inner products, keeps three vectors
    however many terms there are, and treats each image alone; and it needs hardly more applications of A^T A than a
    Lanczos process of its own would, about 28 where the loop takes K = 100.

    tolerance: the error of the update x_K - D relative to it, in the 2-norm. A UserWarning says so where
    polynomial.MOST_TERMS applications of A^T A do not reach it.
    """

    can = frozenset({"linear", "prox"})
    collapses = True
    recordable = False
    tolerance = 1e-3

    def normal(self, v: Tensor) -> Tensor:
        """A^T A v, [B, C, H, W]."""
        return self.adjoint(self.linear(v))

    def largest_eigenvalues(self) -> list[float]:
        return [self.image(n).polynomials.largest for n in range(self.batch)]

    def local_map(self, D: Tensor, y: Tensor, weights: AnyWeights) -> Tensor:
        """x = D + phi(A^T A) (1 - lam) k2 A^T (y - A D)."""
        known = table(weights, D.device)
        if not len(known.values) == self.batch == 1:
            one = (slice(n, n + 1) for n in range(len(D)))
            return torch.cat([self.image(n.start).local_map(D[n], y[n], known.image(n.start)) for n in one])
        w = known.single
        return self._add(D, self.adjoint(y - self.forward(D)), lambda s: w.c * phi(s, w), w.steps)

    def prox(self, v: Tensor, y: Tensor, gamma: float | Tensor) -> Tensor:
        """argmin_x gamma/2 |A x - y|^2 + 1/2 |x - v|^2 = v + gamma (gamma A^T A + I)^{-1} A^T (y - A v).

        Args:
            v: images [B, C, *spatial].
            y: measurements.
            gamma: not negative; a number for all images, or [B, 1, ...].
        """
        each = gamma.flatten().tolist() if isinstance(gamma, Tensor) else [gamma]
        if len(set(each)) == self.batch == 1:
            return self._add(v, self.adjoint(y - self.forward(v)), lambda s: each[0] / (1 + each[0] * s), math.inf)
        one = [self.image(n).prox(v[n : n + 1], y[n : n + 1], each[n % len(each)]) for n in range(len(v))]
        return torch.cat(one) if one else v

    def _add(self, x: Tensor, g: Tensor, function: Callable[[Tensor], Tensor], most: float) -> Tensor:
        return self.polynomials.add(x, g, function, most, self.tolerance)

    @property
    def polynomials(self) -> Polynomials:
        """Those of this A^T A, worked out once."""
        if "_polynomials" not in vars(self):
            self._polynomials = Polynomials(self.normal, self._start, self.name)
        return self._polynomials

    def _start(self) -> Tensor:
        """A^T of the measurement of a random image with the spectrum of photographs."""
        shape = (1, *self.shape[1:]) if self.channelwise else self.shape
        return self.adjoint(typical(self.linear, photo_like(shape).to(self.device, self.dtype)))
