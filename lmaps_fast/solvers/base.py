"""The loop that every solver shares. A solver is its noise levels and one `step`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from lmaps_fast.renoise import Noise


@dataclass(frozen=True)
class Step:
    """What a callback sees after step `index` of `total`: the estimate x0 and the next state x, both [B, C, H, W]."""

    index: int
    total: int
    sigma: float
    x0: Tensor
    x: Tensor


class Solver(Protocol):
    sigmas: list[float]  # from high to low, ending in 0

    def start(self, y: Tensor) -> Tensor:
        """The images that the noise of sigmas[0] is added to, [B, C, H, W]."""

    def begin(self, y: Tensor) -> Any:
        """What the steps need of the measurement, computed once."""

    def step(self, x: Tensor, index: int, data: Any, noise: Noise) -> tuple[Tensor, Tensor]:
        """From x at sigmas[index] to (x at sigmas[index + 1], x0). May overwrite x and what it returned before."""


@torch.no_grad()
def sample(solver: Solver, y: Tensor, noise: Noise, callback: Callable[[Step], object] | None = None) -> Tensor:
    """Run a solver on the measurements y [B, ...] and return the last x0, [B, C, H, W]. noise: that of the images."""
    data, sigmas = solver.begin(y), solver.sigmas
    x = noise.add(solver.start(y), sigmas[0])
    for i in range(len(sigmas) - 1):
        x, x0 = solver.step(x, i, data, noise)
        if callback is not None:
            callback(Step(i, len(sigmas) - 1, sigmas[i], x0.clone(), x.clone()))
    return x0
