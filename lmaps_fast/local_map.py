"""The local MAP problem between two network calls (Eq. 13 of the paper), its K-step loop and its collapsed form.

x0 = argmin_x  lam/2 |x - D|^2 + (1 - lam) k2/2 |A(x) - y|^2,   K gradient steps of size lr from x = D
"""

import math
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lmaps_fast import dispatch
from lmaps_fast.errors import InputError

if TYPE_CHECKING:
    from lmaps_fast.operators.base import Operator


# Pixels above which the channels of an image go one after the other where they can: it bounds the memory.
LARGE_IMAGE = 1024 * 1024


@dataclass(frozen=True)
class Weights:
    """Weights of one local MAP problem: lam in [0, 1] (prior against data), k2 >= 0 (scale of the data term), lr > 0
    (step size) and steps >= 1 (K). Raises InputError outside these ranges."""

    lam: float
    k2: float
    lr: float
    steps: int

    def __post_init__(self) -> None:
        for name, value, good, range_ in (
            ("lam", self.lam, 0 <= self.lam <= 1, "between 0 and 1"),
            ("k2", self.k2, 0 <= self.k2 < math.inf, "finite and not negative"),
            ("lr", self.lr, 0 < self.lr < math.inf, "finite and positive"),
            ("steps", self.steps, self.steps >= 1 and self.steps == int(self.steps), "a whole number, at least 1"),
        ):
            if not good:
                raise InputError(f"{name} must be {range_}, not {value}")

    @property
    def c(self) -> float:
        """The weight of the data term, (1 - lam) k2."""
        return (1 - self.lam) * self.k2


def gradient_descent(operator: "Operator", D: Tensor, y: Tensor, weights: Weights) -> Tensor:
    """The reference: x <- x - lr (lam (x - D) + (1 - lam) k2 A'(x)^T (A(x) - y)), K times from x = D.

    D: [B, C, H, W] in [-1, 1]; y: what `operator(D)` looks like. Returns x_K, [B, C, H, W].
    """
    x = D
    for _ in range(weights.steps):
        x = x - weights.lr * (weights.lam * (x - D) + weights.c * operator.gradient(x, y))
    return x


def phi(s: Tensor, weights: Weights) -> Tensor:
    """The spectral filter of K steps: x_K = D + phi(A^T A) (1 - lam) k2 A^T (y - A D).

    phi(s) = (1 - (1 - lr h)^K) / h with h = lam + (1 - lam) k2 s, for eigenvalues s >= 0 of any shape. Evaluated as
    lr * sum_{j<K} (1 - lr h)^j by doubling, S_2k = S_k (2 - z S_k) and S_{k+1} = 1 + (1 - z) S_k: no division, so
    h = 0 gives K lr, and no cancellation for small lr h.
    """
    z = weights.lr * (weights.lam + weights.c * s)
    total = torch.ones_like(z)
    for bit in bin(weights.steps)[3:]:
        total = total * (2 - z * total)
        if bit == "1":
            total = 1 + (1 - z) * total
    return weights.lr * total


class Problem:
    """One measurement, ready for many local MAP solves: what depends on y alone is computed here, once.

    `Problem(operator, y)(D, weights)` is the K-step iterate by the operator's collapsed form where it has one, and by
    the loop where it has none or where the backend "reference" is asked for.
    """

    def __init__(self, operator: "Operator", y: Tensor, backend: str | None = None) -> None:
        self.operator, self.backend = operator, dispatch.requested(backend)
        self.collapsed = None if self.backend == "reference" else getattr(operator, "local_map", None)
        self.data = operator.precompute(y) if self.collapsed else y
        pixel_map = getattr(operator, "pixel_map", None)
        self.pixel_map = pixel_map(self.data.contiguous()) if self.collapsed and pixel_map else None

    def __call__(self, D: Tensor, weights: Weights) -> Tensor:
        if self.collapsed is None:
            return gradient_descent(self.operator, D, self.data, weights)
        with dispatch.use_backend(self.backend):
            if not (self.operator.channelwise and D.shape[-2] * D.shape[-1] > LARGE_IMAGE):
                return self.collapsed(D, self.data, weights)
            x = torch.empty_like(D)
            for b, c in product(range(len(D)), range(D.shape[1])):
                one = (slice(b, b + 1), slice(c, c + 1))
                x[one] = self.collapsed(D[one], self.data[one], weights)
            return x


def solve(operator: "Operator", D: Tensor, y: Tensor, weights: Weights, backend: str | None = None) -> Tensor:
    """The iterate of `gradient_descent`, collapsed and fused. Same arguments, shapes and result to rounding."""
    operator.check_image(D)
    operator.check_measurement(y)
    return Problem(operator, y, backend)(D, weights)
