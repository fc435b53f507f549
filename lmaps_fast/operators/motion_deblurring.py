"""Motion deblurring: y = k * x + noise, with a random stroke or a kernel of one's own."""

import os
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor

from lmaps_fast.errors import InputError
from lmaps_fast.operators.base import Linear
from lmaps_fast.operators.convolution import blur, kernel_of

SIZE = 61  # sides of the protocol's kernel


def motion_deblurring(
    shape: Sequence[int],
    seed: int = 0,
    intensity: float = 0.5,
    kernel: Tensor | np.ndarray | str | os.PathLike | None = None,
    padding: str = "reflect",
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> Linear:
    """Correlation with one kernel for all channels, with reflect or circular padding. Protocol of DAPS.

    seed and intensity (above 0, up to 1) draw a stroke of 61x61 pixels, or of the largest odd side that fits a smaller
    image. kernel: [h, w] with odd sides instead, or a file: .npy, or an image (black = 0), both normalised to sum 1.
    """
    if kernel is None:
        side = min(SIZE, *shape[1:])
        values = motion_kernel(seed, intensity, side - 1 + side % 2)
    else:
        values = kernel_of(kernel)
    operator = blur(shape, values, padding, dtype, device)
    operator.name = "motion_deblurring"
    return operator


def motion_kernel(seed: int, intensity: float = 0.5, size: int = SIZE) -> Tensor:
    """A random stroke, [size, size] in float64 with sum 1; intensity bends it and makes it jagged."""
    if not 0 < intensity <= 1:
        raise InputError(f"intensity must be above 0 and up to 1, not {intensity}")
    rng, canvas = np.random.default_rng(seed), 2 * size
    diagonal = 2**0.5 * canvas
    longest = 0.75 * diagonal * (rng.uniform() + rng.uniform(0, intensity**2))
    steps: list[float] = []
    while sum(steps) < longest:
        step = rng.beta(1, 30) * (1 - intensity + 0.1) * diagonal
        if step < longest:
            steps.append(step)
    largest, jitter = rng.uniform(0, intensity * np.pi), rng.beta(2, 20)
    angles = [rng.uniform(-largest, largest)]
    while len(angles) < len(steps):
        sign = np.sign(angles[-1]) * (-1 if rng.uniform() < jitter else 1)
        angles.append(sign * rng.triangular(0, intensity * largest, largest + 0.1))
    path = np.cumsum(np.array(steps) * np.exp(1j * np.array(angles)))
    path = (path - path.mean()) * np.exp(1j * rng.uniform(0, np.pi)) + size * (1 + 1j)
    picture = Image.new("L", (canvas, canvas))
    points = [(float(p.real), float(p.imag)) for p in path]
    ImageDraw.Draw(picture).line(points, fill=255, width=max(1, int(diagonal / 150)))
    picture = picture.filter(ImageFilter.GaussianBlur(int(0.01 * diagonal)))
    picture = picture.resize((size, size), Image.Resampling.LANCZOS)
    kernel = torch.from_numpy(np.asarray(picture, dtype=np.float64).copy())
    return kernel / kernel.sum()
