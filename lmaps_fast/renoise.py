"""From x0 to the next x (Eq. 8b), and the rule for random numbers."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lmaps_fast import ops

# Separate streams for separate purposes: with one seed, the noise of a measurement must not return in the sampler.
MEASUREMENT, SAMPLER, DENOISER, OPERATOR = 0, 1, 2, 3


def seed_of(purpose: int, seed: int, image: int = 0) -> int:
    """One well-mixed 63-bit seed per (purpose, seed, image)."""
    return int(np.random.SeedSequence((purpose, seed, image)).generate_state(1, np.uint64)[0] >> np.uint64(1))


class Noise:
    """Standard normal draws for a batch, one stream per image.

    A draw depends on the seed, on the image's number and on how many draws came before it, never on the batch that the
    image is in, nor on the device. Calling it returns [B, *shape]; of complex numbers each part has variance 1/2.
    """

    def __init__(
        self,
        purpose: int,
        seed: int,
        images: Sequence[int],
        shape: Sequence[int],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.keys = [seed_of(purpose, seed, image) for image in images]
        self.shape, self.dtype, self.device, self.draw = tuple(shape), dtype, device, 0

    def __call__(self) -> Tensor:
        return self.add(torch.zeros(len(self.keys), *self.shape, dtype=self.dtype, device=self.device), 1.0)

    def add(self, x: Tensor, sigma: float) -> Tensor:
        """x + sigma * eps with the next draw, in one pass. x: [B, *shape]."""
        draw, self.draw = self.draw, self.draw + 1
        if x.is_complex():
            return torch.view_as_complex(ops.add_normal(torch.view_as_real(x), self.keys, draw, sigma * math.sqrt(0.5)))
        return ops.add_normal(x, self.keys, draw, sigma)


def renoise(x: Tensor, x0: Tensor, sigma: float, sigma_next: float, rho: float, noise: Noise) -> Tensor:
    """x_next = x0 + sigma_next (sqrt(1 - rho^2) (x - x0) / sigma + rho eps); rho = 1 forgets x, rho = 0 is DDIM."""
    if sigma_next == 0:
        return x0
    out = x0
    if rho < 1:
        out = torch.lerp(x0, x, sigma_next / sigma * math.sqrt(1 - rho * rho))
    if rho > 0:
        out = noise.add(out, sigma_next * rho)
    return out
