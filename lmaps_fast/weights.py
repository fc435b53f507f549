"""The weights of one local MAP problem, and phi, the filter that stands for its K gradient steps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lmaps_fast.errors import InputError

COLUMNS = ("lam", "c", "lr", "K")  # of a table of weights, as kernels read it


@dataclass(frozen=True)
class Weights:
    """The weights of min_x lam/2 |x - D|^2 + (1 - lam) k2/2 |A(x) - y|^2, solved by K gradient steps from x = D.

    Args:
        lam: weight of the prior against the data, 0 to 1.
        k2: scale of the data term, not negative.
        lr: step size, positive.
        steps: K, a whole number, at least 1.

    Errors: InputError outside these ranges.
    Source: Eq. 13 of arXiv 2510.07343.
    """

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

    def curvature(self, largest: float) -> float:
        """lr (lam + c s) for the largest eigenvalue s of A^T A: the steps diverge where it exceeds 2."""
        return self.lr * (self.lam + self.c * largest)


@dataclass(frozen=True)
class WeightTable:
    """The weights of the images of a batch: on the device as kernels read them, and on the host.

    values: float64 [1 or B, 4], a row of COLUMNS for each image. most: the largest K. weights: the rows as `Weights`;
    empty where only the device knows them.
    """

    values: Tensor
    most: int
    weights: tuple[Weights, ...] = ()

    def columns(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """lam, c and lr in the dtype of `like`, and K in int64, each [1 or B, 1, ...] to be broadcast with it."""
        lam, c, lr, K = self.values.view(-1, 4, *[1] * (like.dim() - 1)).unbind(1)
        dtype = like.real.dtype if like.is_complex() else like.dtype
        return lam.to(dtype), c.to(dtype), lr.to(dtype), K.long()

    def image(self, n: int) -> "WeightTable":
        """The row of image n."""
        if len(self.values) == 1:
            return self
        weights = self.weights[n : n + 1]
        most = int(weights[0].steps) if weights else self.most
        return WeightTable(self.values[n : n + 1], most, weights)

    @property
    def single(self) -> Weights:
        """The weights of a table of one row that the host knows."""
        (weights,) = self.weights
        return weights


AnyWeights = Weights | Sequence[Weights] | WeightTable


def table(weights: AnyWeights, device: torch.device) -> WeightTable:
    """The table of one `Weights` for all images, of one for each image, or a table as it is."""
    if isinstance(weights, WeightTable):
        return weights
    each = (weights,) if isinstance(weights, Weights) else tuple(weights)
    if not each:
        raise InputError("there are no weights: give one Weights, or one for each image")
    rows = np.array([[w.lam, w.c, w.lr, w.steps] for w in each], np.float64)  # half the time of torch.tensor
    return WeightTable(torch.from_numpy(rows).to(device), max([int(w.steps) for w in each]), each)


def phi(s: Tensor, weights: AnyWeights) -> Tensor:
    """The spectral filter of K steps: x_K = D + phi(A^T A) (1 - lam) k2 A^T (y - A D).

    phi(s) = (1 - (1 - lr h)^K) / h with h = lam + (1 - lam) k2 s. Evaluated as lr * sum_{j<K} (1 - lr h)^j by doubling,
    S_2k = S_k (2 - z S_k) and S_{k+1} = 1 + (1 - z) S_k: no division, so h = 0 gives K lr, and no cancellation for
    small lr h.

    Args:
        s: eigenvalues of A^T A, not negative; any shape for one `Weights`, else [1 or B, ...].
        weights: one `Weights`, one for each image, or a table of them.
    """
    known = table(weights, s.device)
    lam, c, lr, K = known.columns(s)
    z = lr * (lam + c * s)
    total = torch.zeros_like(z)
    for bit in reversed(range(known.most.bit_length())):  # of a K with fewer bits, total stays 0 until its first
        total = total * (2 - z * total)
        total = torch.where((K >> bit) & 1 == 1, 1 + (1 - z) * total, total)
    return lr * total
