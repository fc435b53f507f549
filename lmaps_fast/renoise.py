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
        self.keys = torch.tensor([seed_of(purpose, seed, image) for image in images], dtype=torch.int64, device=device)
        self.shape, self.dtype, self.draw = tuple(shape), dtype, 0

    @classmethod
    def of_keys(cls, keys: Tensor, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> "Noise":
        """The draws of images whose keys, [B] int64, were taken from another `Noise`."""
        noise = cls(SAMPLER, 0, (), shape, dtype)
        noise.keys = keys
        return noise

    def __call__(self) -> Tensor:
        return self.add(torch.zeros(len(self.keys), *self.shape, dtype=self.dtype, device=self.keys.device), 1.0)

    def next_draw(self) -> int:
        """The number of the next draw, which is used up."""
        self.draw += 1
        return self.draw - 1

    def add(self, x: Tensor, sigma: float) -> Tensor:
        """x + sigma * eps with the next draw, in one pass. x: [B, *shape]."""
        draw = self.next_draw()
        if x.is_complex():
            return torch.view_as_complex(ops.add_normal(torch.view_as_real(x), self.keys, draw, sigma * math.sqrt(0.5)))
        return ops.add_normal(x, self.keys, draw, sigma)


def shares(sigma: float, sigma_next: float, rho: float) -> tuple[float, float]:
    """What the next x keeps of x - x0, and its new noise: sigma_next sqrt(1 - rho^2) / sigma and sigma_next rho."""
    return sigma_next / sigma * math.sqrt(1 - rho * rho), sigma_next * rho


def renoise(x: Tensor, x0: Tensor, sigma: float, sigma_next: float, rho: float, noise: Noise) -> Tensor:
    """x_next = x0 + sigma_next (sqrt(1 - rho^2) (x - x0) / sigma + rho eps); rho = 1 forgets x, rho = 0 is DDIM."""
    keep, level = shares(sigma, sigma_next, rho)
    out = torch.lerp(x0, x, keep) if keep else x0
    return noise.add(out, level) if level else out
