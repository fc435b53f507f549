"""Functions of A^T A by polynomials, where only products with A and A^T are known."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lmaps_fast import ops
from lmaps_fast.errors import InputError
from lmaps_fast.noise import OPERATOR, keys

FIRST_TERMS, MOST_TERMS = 48, 768
# The terms left out are weighed on a random measurement. For others they came to up to six times as much.
MARGIN = 10


@dataclass(frozen=True)
class Recurrence:
    """alpha, beta: of the orthonormal polynomials. s, vectors: eigenvalues and eigenvectors of their matrix T. ended:
    whether the process came to its natural end."""

    alpha: list[float]
    beta: list[float]
    s: Tensor
    vectors: Tensor
    ended: bool


@dataclass
class Polynomials:
    """The polynomials that are orthonormal for the spectrum of one A^T A, worked out when they are asked for.

    normal: v -> A^T A v. start: -> A^T y of a typical measurement, [1, C, *spatial]. name: of the operator, for errors.
    """

    normal: Callable[[Tensor], Tensor]
    start: Callable[[], Tensor]
    name: str
    known: dict[int, Recurrence] = field(default_factory=dict)

    @property
    def largest(self) -> float:
        """The largest eigenvalue of A^T A."""
        return self.recurrence(FIRST_TERMS).s.max().item()

    def recurrence(self, terms: int) -> Recurrence:
        """That of so many terms, worked out once."""
        if terms not in self.known:
            with torch.no_grad():
                self.known[terms] = lanczos(self.normal, self.start(), terms, self.name)
        return self.known[terms]

    def expand(
        self, function: Callable[[Tensor], Tensor], most: float, tolerance: float
    ) -> tuple[Recurrence, list[float]]:
        """The recurrence, and as many coefficients of f as the tolerance asks for. It is sought from the shortest on,
        whatever was needed before, so that a result does not depend on the calls before.

        Args:
            function: f, of eigenvalues.
            most: terms that are surely enough, the degree of f plus 1; math.inf where f is no polynomial.
            tolerance: of f(A^T A) g, relative, in the 2-norm; a UserWarning says where MOST_TERMS do not reach it.
        """
        r = self.recurrence(FIRST_TERMS)
        while True:
            coefficients = r.vectors @ (function(r.s) * r.vectors[0])
            tail = coefficients.square().flip(0).cumsum(0).flip(0).sqrt()
            needed = max(1, int((tail > tolerance / MARGIN * tail[0]).sum()))
            needed = needed if needed < most else int(most)
            # Of a T that is cut the last coefficients are not yet what they will be.
            if needed <= 0.8 * len(r.s) or r.ended or len(r.s) >= most:
                return r, coefficients[:needed].tolist()
            if len(r.s) >= MOST_TERMS:
                warnings.warn(
                    f"{self.name}: {MOST_TERMS} applications of A^T A do not reach the tolerance of {tolerance}: "
                    f"take shorter or fewer steps, or set operator.tolerance higher",
                    stacklevel=2,
                )
                return r, coefficients[:needed].tolist()
            r = self.recurrence(2 * len(r.s))

    def add(
        self,
        x: Tensor,
        g: Tensor,
        function: Callable[[Tensor], Tensor],
        most: float = math.inf,
        tolerance: float = 1e-3,
    ) -> Tensor:
        """x + f(A^T A) g, by beta_j p_{j+1} = (A^T A - alpha_j) p_j - beta_{j-1} p_{j-1} from p_0 = g.

        Args:
            x, g: images.
            function, most, tolerance: as of `expand`.
        """
        r, coefficients = self.expand(function, most, tolerance)
        x, p, previous = x + coefficients[0] * g, g, g
        spare = torch.empty_like(g)  # new memory would cost as much as a product on large images
        for j, coefficient in enumerate(coefficients[1:]):
            following = torch.sub(self.normal(p), p, alpha=r.alpha[j], out=spare)
            if j > 0:
                following.sub_(previous, alpha=r.beta[j - 1])
            spare = previous if j > 1 else torch.empty_like(g)  # g is not ours
            p, previous = following.div_(r.beta[j]), p
            x = x.add_(p, alpha=coefficient)
        return x


def lanczos(normal: Callable[[Tensor], Tensor], p: Tensor, terms: int, name: str) -> Recurrence:
    """The Lanczos process of A^T A from p. Raises InputError where A^T A is no A^T A."""
    p, previous = p / p.norm().clamp(min=torch.finfo(p.dtype).tiny), p
    alpha: list[float] = []
    beta: list[float] = []
    for j in range(terms):
        following = normal(p)
        alpha.append(torch.dot(following.flatten(), p.flatten()).item())
        following = following.sub(p, alpha=alpha[j])
        if j > 0:
            following.sub_(previous, alpha=beta[j - 1])
        beta.append(following.norm().item())
        if beta[j] <= 100 * torch.finfo(p.dtype).eps * max(alpha):
            break  # p spans, with those before, all that A^T A makes of it: the expansion is exact
        p, previous = following.div_(beta[j]), p
    off = torch.tensor(beta[: len(alpha) - 1], dtype=torch.float64)
    T = torch.tensor(alpha, dtype=torch.float64).diag() + off.diag(1) + off.diag(-1)
    s, vectors = torch.linalg.eigh(T)
    if not s[0] >= -1e-3 * s[-1]:
        raise InputError(
            f"the adjoint of {name} does not belong to its A, since A^T A has a negative or infinite "
            f"eigenvalue: operator.check_adjoint() tells by how much they differ"
        )
    return Recurrence(alpha, beta, s.clamp(min=0), vectors, ended=len(alpha) < terms)


def typical(A: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The measurement of an image, and noise."""
    y = A(x)
    return ops.add_normal(y, keys(OPERATOR, 0, [0], y.device), 0, 0.1 * y.abs().square().mean().sqrt())


def photo_like(shape: tuple[int, ...]) -> Tensor:
    """A fixed random image [1, C, *spatial] in float64, amplitudes falling as 1 / frequency, standard deviation .5."""
    white = ops.normal(keys(OPERATOR, 1, [0]), shape, dtype=torch.float64)
    spatial = shape[1:]
    axes = [torch.fft.fftfreq(n, dtype=torch.float64) for n in spatial[:-1]]
    axes.append(torch.fft.rfftfreq(spatial[-1], dtype=torch.float64))
    grid = torch.meshgrid(*axes, indexing="ij")
    frequency = sum((axis.square() for axis in grid), torch.zeros((), dtype=torch.float64)).sqrt()
    frequency = frequency.clamp(min=1 / max(spatial))
    dims = tuple(range(-len(spatial), 0))
    x = torch.fft.irfftn(torch.fft.rfftn(white, dim=dims) / frequency, s=spatial, dim=dims)
    return 0.5 * x / x.std()
