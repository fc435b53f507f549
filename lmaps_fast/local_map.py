"""The local MAP problem between two network calls (Eq. 13 of the paper), its K-step loop and its collapsed form.

x0 = argmin_x  lam/2 |x - D|^2 + (1 - lam) k2/2 |A(x) - y|^2,   K gradient steps of size lr from x = D
"""

import copy
import math
from itertools import product
from typing import Any

import torch
from torch import Tensor

from lmaps_fast.errors import InputError
from lmaps_fast.operators.base import Operator
from lmaps_fast.ops import backends
from lmaps_fast.weights import AnyWeights, Weights, WeightTable, phi, table

# Pixels above which the channels of an image go one after the other where they can: it bounds the memory.
LARGE_IMAGE = 1024 * 1024
MOST_CURVATURE = 2 * (1 + 1e-6)  # above 2 the steps diverge


def gradient_descent(operator: Operator, D: Tensor, y: Tensor, weights: AnyWeights) -> Tensor:
    """The reference: x <- x - lr (lam (x - D) + (1 - lam) k2 A'(x)^T (A(x) - y)), K times from x = D.

    Args:
        operator: A.
        D: [B, C, *spatial] in [-1, 1].
        y: what `operator(D)` looks like.
        weights: one `Weights`, or one for each image.

    Returns: x_K, like D.
    """
    known = table(weights, D.device)
    lam, c, lr, K = known.columns(D)
    x, y = D, operator.feasible(y)
    for k in range(known.most):
        following = x - lr * (lam * (x - D) + c * operator.gradient(x, y))
        x = following if len(K) == 1 else torch.where(k < K, following, x)
    return x


class ByImage:
    """An operator whose methods treat the images of a batch one after the other on a CPU, whose products and transforms
    depend in their last digits on how many images they are given; elsewhere all at once."""

    def __init__(self, operator: Operator) -> None:
        self.operator = operator

    def __getattr__(self, name: str) -> Any:
        def method(*tensors: Tensor) -> Tensor:
            count = len(tensors[0])
            if count < 2 or tensors[0].device.type != "cpu":
                return getattr(self.operator, name)(*tensors)
            parts = ([t if len(t) == 1 else t[n : n + 1] for t in tensors] for n in range(count))
            return torch.cat([getattr(self.operator.image(n), name)(*part) for n, part in enumerate(parts)])

        return method


class Problem:
    """One batch of measurements, ready for many local MAP solves: what depends on y alone is computed here, once.

    `Problem(operator, y)(D, weights)` is the K-step iterate by the operator's collapsed form where it has one, and by
    the loop where it has none or where the backend "reference" is asked for.
    """

    def __init__(self, operator: Operator, y: Tensor, backend: str | None = None) -> None:
        self.operator: Any = operator  # with the abilities that a solver has asked for
        self.backend, self.y = backends.requested(backend), y
        self.collapsed = operator.collapses and self.backend != "reference"
        with backends.use_backend(self.backend):
            self.data = self.A.prepare(y).contiguous() if self.collapsed else y
        self.pixel_map = operator.pixel_map(self.data) if self.collapsed else None

    @property
    def A(self) -> Any:
        """The operator's methods, by which an image in a batch is what it is alone."""
        return ByImage(self.operator)

    @property
    def precomputed(self) -> Tensor:
        """What depends on y alone, as an operator's abilities take it."""
        if self.collapsed and not self.operator.prepares:
            return self.data
        if "_precomputed" not in vars(self):
            self._precomputed = self.A.precompute(self.y)
        return self._precomputed

    @property
    def guess(self) -> Tensor:
        """A first estimate of the images from y alone; grey where there is none."""
        guess = self.operator.first_guess(self.y)
        return (
            self.y.new_zeros(len(self.y), *self.operator.shape, dtype=self.operator.dtype) if guess is None else guess
        )

    def prox(self, v: Tensor, gamma: Tensor) -> Tensor:
        """argmin_x gamma/2 |A x - y|^2 + 1/2 |x - v|^2, of an operator that can. gamma: [1 or B, 1, ...]."""
        return self.A.prox(v, self.precomputed, gamma)

    def tensors(self) -> list[Tensor]:
        """All tensors that it reads."""
        return [self.y, self.data, *self.operator.numbers.values()]

    def with_tensors(self, tensors: list[Tensor]) -> "Problem":
        """The same problem with other tensors, in the order of `tensors`."""
        other = copy.copy(self)
        vars(other).pop("_precomputed", None)
        other.y, other.data, *numbers = tensors
        other.operator = self.operator.with_numbers(dict(zip(self.operator.numbers, numbers, strict=True)))
        other.pixel_map = other.operator.pixel_map(other.data) if self.collapsed else None
        return other

    def select(self, images: Tensor) -> "Problem":
        """The problem of some images of the batch."""
        other = copy.copy(self)
        vars(other).pop("_precomputed", None)
        other.y, other.data, other.operator = self.y[images], self.data[images], self.operator.select(images)
        other.pixel_map = other.operator.pixel_map(other.data) if self.collapsed else None
        return other

    def __call__(self, D: Tensor, weights: AnyWeights) -> Tensor:
        known = table(weights, D.device)
        with backends.use_backend(self.backend):
            if self.pixel_map is not None:
                return self.pixel_map(D, known)
            return self._in_parts(D, known)

    def _in_parts(self, D: Tensor, weights: WeightTable) -> Tensor:
        """Image by image on a CPU, where the last digits of products and transforms depend on the size of the batch;
        large images channel by channel."""
        operator = self.operator
        solved = type(operator).local_map if self.collapsed else gradient_descent
        by_channel = self.collapsed and operator.channelwise and math.prod(D.shape[2:]) > LARGE_IMAGE
        by_image = len(D) > 1 and D.device.type == "cpu"
        if not (by_image or by_channel):
            return solved(operator, D, self.data, weights)
        x = torch.empty_like(D)
        channels = [slice(c, c + 1) for c in range(D.shape[1])] if by_channel else [slice(None)]
        for n, channel in product(range(len(D)), channels):
            one = (slice(n, n + 1), channel)
            x[one] = solved(operator.image(n), D[one], self.data[one], weights.image(n))
        return x


def check_convergence(operator: Operator, weights: AnyWeights) -> None:
    """Raise InputError where the K steps diverge: where lr (lam + (1 - lam) k2 |A|^2) exceeds 2."""
    largest = operator.largest_eigenvalues() or []
    each = table(weights, torch.device("cpu")).weights
    for n in range(max(len(each), len(largest)) if largest and each else 0):
        w, s = each[n % len(each)], largest[n % len(largest)]
        if w.curvature(s) > MOST_CURVATURE:
            raise InputError(
                f"lr = {w.lr:g} is too long a step for {operator.name}, whose |A|^2 is {s:g}: the steps diverge; give "
                f"lr = {1 / (w.lam + w.c * s):.3g} or less"
            )


def solve(operator: Operator, D: Tensor, y: Tensor, weights: AnyWeights, backend: str | None = None) -> Tensor:
    """The iterate of `gradient_descent`, collapsed and fused.

    Args:
        operator: A.
        D: [B, C, *spatial] in [-1, 1].
        y: what `operator(D)` looks like.
        weights: one `Weights`, or one for each image.
        backend: see `use_backend`; default: the quickest that can run.

    Returns: x_K, like D, equal to that of the loop to rounding.
    Errors: InputError for tensors that do not fit the operator, and for steps that diverge.
    """
    D, y = operator.check_image(D), operator.check_measurement(y)
    if len(D) != len(y):
        raise InputError(f"D is a batch of {len(D)} but y of {len(y)}: give a measurement for each image")
    known = table(weights, D.device)
    if len(known.values) not in (1, len(D)):
        raise InputError(f"there are {len(known.values)} weights for {len(D)} images: give one, or one for each image")
    check_convergence(operator, known)
    return Problem(operator, y, backend)(D, known)


__all__ = ["Problem", "WeightTable", "Weights", "check_convergence", "gradient_descent", "phi", "solve"]
