"""Motion deblurring: y = k * x + noise, with a random stroke or a kernel of one's own."""

import os
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor

from lmaps_fast.errors import InputError
from lmaps_fast.operators.base import Linear
from lmaps_fast.operators.convolution import Structures, blur, kernel_of
from lmaps_fast.operators.structures import Fourier, Kronecker, ReflectBlur
from lmaps_fast.presets import Preset

SIZE = 61  # sides of the protocol's kernel


class Motion:
    """What the task has with every structure."""

    name = "motion_deblurring"
    presets: ClassVar = {
        "paper": Preset(200, 100, 0.01, 0.25, 100),
        "natural": Preset(20, 100, 0.02, 0.25, 50, sigma_max=0.15, sigma_min=0.012, start="measurement"),
    }


class CircularMotion(Motion, Fourier):
    """Motion blur with circular padding."""


class SeparableMotion(Motion, Kronecker):
    """Motion blur by a kernel that is a product of two vectors."""


class MotionDeblurring(Motion, ReflectBlur):
    """Correlation with one kernel for all channels. Protocol of DAPS."""

    @classmethod
    def create(
        cls,
        shape: Sequence[int],
        seed: int = 0,
        intensity: float | None = None,
        kernel: Tensor | np.ndarray | str | os.PathLike | None = None,
        padding: str = "reflect",
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Linear:
        """The operator of a kernel, in the structure that suits it.

        Args:
            shape: (C, H, W) of the images.
            seed: draws a stroke of 61x61 pixels, or of the largest odd side that fits a smaller image; default 0.
            intensity: of the drawn stroke, above 0 and up to 1; default .5.
            kernel: [h, w] with odd sides, or a file: .npy, or an image (black = 0), both normalised to sum 1;
                default: a drawn stroke.
            padding: "reflect" (default) or "circular".
            dtype, device: of the images; default float32, "cpu".

        Errors: InputError outside these ranges, for a kernel that does not fit, and for both kernel and intensity.
        """
        if kernel is None:
            side = min(SIZE, *shape[1:])
            values = motion_kernel(seed, 0.5 if intensity is None else intensity, side - 1 + side % 2)
        elif intensity is not None:
            raise InputError("intensity is that of a drawn stroke: leave intensity or kernel out")
        else:
            values = kernel_of(kernel)
        return blur(shape, values, padding, dtype, device, Structures(CircularMotion, SeparableMotion, cls))


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
