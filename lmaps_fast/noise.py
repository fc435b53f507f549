"""The rule for random numbers: keys of images, and the numbers of a key. No state, so nothing depends on the batch."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lmaps_fast.errors import InputError

# Separate streams for separate purposes: with one seed, the noise of a measurement must not return in the sampler.
MEASUREMENT, SAMPLER, DENOISER, OPERATOR = 0, 1, 2, 3


def seed_of(purpose: int, seed: int, image: int = 0) -> int:
    """One well-mixed 63-bit seed per (purpose, seed, image). Raises InputError for a seed that is no natural number."""
    for name, value in (("seed", seed), ("the number of an image", image)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
            raise InputError(f"{name} must be a whole number, at least 0, not {value!r}")
    return int(np.random.SeedSequence((purpose, seed, image)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def keys(purpose: int, seed: int, images: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """The key of each image, [B] int64: a function of purpose, seed and the image's number."""
    return torch.tensor([seed_of(purpose, seed, image) for image in images], dtype=torch.int64, device=device)


def standard_normal(key: Tensor, draw: Tensor, count: int) -> Tensor:
    """`count` standard normal numbers, float32, of one key and one draw: Philox4x32-10 (Salmon et al., 2011) with the
    counter (position, draw), and Box-Muller in float32, laid out as csrc/core/normal.h says.

    Args:
        key, draw: int64 without dimensions; the draw counts from 0.
        count: how many numbers.
    """
    words = 0xFFFFFFFF
    counter = torch.arange(-(-count // 256) * 64, dtype=torch.int64, device=key.device)
    c = [counter & words, counter >> 32, torch.zeros_like(counter) + (draw & words), torch.zeros_like(counter)]
    k0, k1 = key & words, key >> 32
    for _ in range(10):
        p, q = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]  # of 64 bits, whose sign is their highest
        c = [(q >> 32 & words) ^ c[1] ^ k0, q & words, (p >> 32 & words) ^ c[3] ^ k1, p & words]
        k0, k1 = k0 + 0x9E3779B9 & words, k1 + 0xBB67AE85 & words
    numbers = []
    for u, v in (c[:2], c[2:]):
        radius = (-2 * (((u >> 8) + 1).float() * 2**-24).log()).sqrt()
        quadrant = (v >> 31) + 2 * (v >> 30 & 1)
        angle = (math.pi / 2) * (quadrant + ((v >> 6) & 0xFFFFFF).double() * 2**-24 - 0.5)
        numbers += [radius * angle.cos().float(), radius * angle.sin().float()]
    return torch.stack([n.view(-1, 64) for n in numbers], 1).flatten()[:count]
