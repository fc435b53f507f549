"""Structure: any linear operator of which only A and A^T are known, by polynomials of A^T A."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from lmaps_fast import ops
from lmaps_fast.errors import InputError
from lmaps_fast.noise import OPERATOR, keys
from lmaps_fast.operators.base import Linear
from lmaps_fast.weights import AnyWeights, phi, table

FIRST_TERMS, MOST_TERMS = 48, 768
# The terms left out are weighed on a random measurement. For others they came to up to six times as much.
MARGIN = 10


class Krylov(Linear):
    """A linear operator with `forward` and `adjoint`.

    The update phi(A^T A) (1 - lam) k2 g, g = A^T (y - A D), is a polynomial of degree K - 1 in A^T A applied to g. It
    is expanded in the polynomials that are orthonormal for the spectrum of A^T A, by their recurrence

        beta_j p_{j+1} = (A^T A - alpha_j) p_j - beta_{j-1} p_{j-1},  p_0 = g,

    with the coefficients phi(T) e_1, where T is the tridiagonal matrix of alpha and beta. These come from a Lanczos
    process on a random measurement, once per operator. So a local MAP takes no inner products, keeps three vectors
    however many terms there are, and treats each image alone; and it needs hardly more applications of A^T A than a
    Lanczos process of its own would, about 28 where the loop takes K = 100.

    tolerance: the error of the update x_K - D relative to it, in the 2-norm. A UserWarning says so where MOST_TERMS
    applications of A^T A do not reach it.
    """

    can = frozenset({"linear", "prox"})
    collapses = True
    recordable = False
    tolerance = 1e-3

    def normal(self, v: Tensor) -> Tensor:
        """A^T A v, [B, C, H, W]."""
        return self.adjoint(self.linear(v))

    def largest_eigenvalues(self) -> list[float]:
        largest = []
        for n in range(self.batch):
            largest.append(self.image(n)._recurrence(FIRST_TERMS).s.max().item())
        return largest

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
        """x + f(A^T A) g, with at most so many terms."""
        r, coefficients = self._expand(function, most)
        x, p, previous = x + coefficients[0] * g, g, g
        for j, coefficient in enumerate(coefficients[1:]):
            following = self.normal(p).sub(p, alpha=r.alpha[j])
            if j > 0:
                following = following.sub_(previous, alpha=r.beta[j - 1])
            p, previous = following.div_(r.beta[j]), p
            x = x.add_(p, alpha=coefficient)
        return x

    def _expand(self, function: Callable[[Tensor], Tensor], most: float) -> tuple["Recurrence", list[float]]:
        """The recurrence, and as many coefficients of the function as the tolerance asks for. It is sought from the
        shortest on, whatever was needed before, so that a result does not depend on the calls before."""
        r = self._recurrence(FIRST_TERMS)
        while True:
            coefficients = r.vectors @ (function(r.s) * r.vectors[0])
            tail = coefficients.square().flip(0).cumsum(0).flip(0).sqrt()
            needed = max(1, int((tail > self.tolerance / MARGIN * tail[0]).sum()))
            needed = needed if needed < most else int(most)
            # Of a T that is cut the last coefficients are not yet what they will be.
            if needed <= 0.8 * len(r.s) or r.ended or len(r.s) >= most:
                return r, coefficients[:needed].tolist()
            if len(r.s) >= MOST_TERMS:
                warnings.warn(
                    f"{self.name}: {MOST_TERMS} applications of A^T A do not reach the tolerance of {self.tolerance}: "
                    f"take shorter or fewer steps, or set operator.tolerance higher",
                    stacklevel=2,
                )
                return r, coefficients[:needed].tolist()
            r = self._recurrence(2 * len(r.s))

    def _recurrence(self, terms: int) -> "Recurrence":
        """That of so many terms, worked out once."""
        known = vars(self).setdefault("_recurrences", {})
        if terms not in known:
            known[terms] = self._lanczos(terms)
        return known[terms]

    @torch.no_grad()
    def _lanczos(self, terms: int) -> "Recurrence":
        """The Lanczos process on the measurement of a random image with the spectrum of photographs, and noise."""
        shape = (1, *self.shape[1:]) if self.channelwise else self.shape
        y = self.linear(photo_like(shape).to(self.device, self.dtype))
        level = 0.1 * y.abs().square().mean().sqrt()
        y = ops.add_normal(y, keys(OPERATOR, 0, [0], y.device), 0, level)
        p = self.adjoint(y)
        p, previous = p / p.norm().clamp(min=torch.finfo(self.dtype).tiny), p
        alpha: list[float] = []
        beta: list[float] = []
        for j in range(terms):
            following = self.normal(p)
            alpha.append(torch.dot(following.flatten(), p.flatten()).item())
            following = following.sub(p, alpha=alpha[j])
            if j > 0:
                following.sub_(previous, alpha=beta[j - 1])
            beta.append(following.norm().item())
            if beta[j] <= 100 * torch.finfo(self.dtype).eps * max(alpha):
                break  # p spans, with those before, all that A^T A makes of it: the expansion is exact
            p, previous = following.div_(beta[j]), p
        off = torch.tensor(beta[: len(alpha) - 1], dtype=torch.float64)
        T = torch.tensor(alpha, dtype=torch.float64).diag() + off.diag(1) + off.diag(-1)
        s, vectors = torch.linalg.eigh(T)
        if not s[0] >= -1e-3 * s[-1]:
            raise InputError(
                f"the adjoint of {self.name} does not belong to its A, since A^T A has a negative or infinite "
                f"eigenvalue: operator.check_adjoint() tells by how much they differ"
            )
        return Recurrence(alpha, beta, s.clamp(min=0), vectors, ended=len(alpha) < terms)


@dataclass(frozen=True)
class Recurrence:
    """alpha, beta: of the orthonormal polynomials. s, vectors: eigenvalues and eigenvectors of their matrix T. ended:
    whether the process came to its natural end."""

    alpha: list[float]
    beta: list[float]
    s: Tensor
    vectors: Tensor
    ended: bool


def photo_like(shape: tuple[int, ...]) -> Tensor:
    """A fixed random image [1, C, *spatial] in float64, amplitudes falling as 1 / frequency, standard deviation .5."""
    white = ops.normal(keys(OPERATOR, 1, [0]), shape, dtype=torch.float64)
    spatial = shape[1:]
    axes = [torch.fft.fftfreq(n, dtype=torch.float64) for n in spatial[:-1]]
    axes.append(torch.fft.rfftfreq(spatial[-1], dtype=torch.float64))
    squares = torch.meshgrid(*(axis.square() for axis in axes), indexing="ij")
    frequency = reduce(torch.add, squares).sqrt().clamp(min=1 / max(spatial))
    dims = tuple(range(-len(spatial), 0))
    x = torch.fft.irfftn(torch.fft.rfftn(white, dim=dims).div_(frequency), s=spatial, dim=dims)
    return x.mul_(0.5 / x.std())
