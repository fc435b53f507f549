"""Box inpainting: y = m x + noise, where m is 0 in one box."""

import os
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from lmaps_fast.errors import InputError
from lmaps_fast.operators.mask import mask_of
from lmaps_fast.operators.structures import Diagonal
from lmaps_fast.presets import Preset


class InpaintingBox(Diagonal):
    """One square of half the shorter side is missing: 128x128 of 256x256, its corner at least 32 from the border.
    Protocol of DAPS.

    Args:
        shape: (C, H, W) of the images.
        seed: draws the place of the square; default 0.
        box: (top, left, height, width) in pixels; default: drawn.
        mask: what is known, a tensor (1 = known), or an image file (white = known); default: drawn.
        dtype, device: of the images; default float32, "cpu".

    Errors: InputError for a box that leaves the image, for a mask that does not fit, and for both at once.
    """

    name = "inpainting_box"
    # With less sigma_max holes stay open; with more, large holes drift off over many calls.
    presets: ClassVar = {
        "paper": Preset(200, 100, 0.02, 0.5, 50),
        "natural": Preset(20, 100, 0.04, 0.5, 25, sigma_max=5.0, sigma_min=0.019, start="measurement"),
    }

    def __init__(
        self,
        shape: Sequence[int],
        seed: int = 0,
        box: Sequence[int] | None = None,
        mask: Tensor | np.ndarray | str | os.PathLike | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        if mask is not None and box is not None:
            raise InputError("a mask says itself which pixels are missing: leave mask or box out")
        super().__init__(shape, mask_of(mask) if mask is not None else self.draw(shape, seed, box), dtype, device)

    @staticmethod
    def draw(shape: Sequence[int], seed: int, box: Sequence[int] | None) -> Tensor:
        height, width = shape[1:]
        if box is None:
            side = min(height, width) // 2
            margin, rng = side // 4, np.random.default_rng(seed)
            top, left = (int(rng.integers(margin, n - side - margin)) for n in (height, width))
            box = (top, left, side, side)
        top, left, rows, columns = box
        if not (0 <= top < top + rows <= height and 0 <= left < left + columns <= width):
            raise InputError(
                f"the box {tuple(box)} leaves the image of {width}x{height}: give (top, left, height, width)"
            )
        mask = torch.ones(height, width, dtype=torch.float64)
        mask[top : top + rows, left : left + columns] = 0
        return mask
