"""Random inpainting: y = m x + noise, where m is 0 in a random share of the pixels."""

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


class InpaintingRandom(Diagonal):
    """int(p H W) pixels, drawn without replacement, are missing in all channels; p ~ U(.70, .71). Protocol of DAPS.

    Args:
        shape: (C, H, W) of the images.
        seed: draws p and the pixels; default 0.
        missing: p, share of missing pixels from 0 up to 1; default: drawn.
        mask: what is known, a tensor (1 = known), or an image file (white = known); default: drawn.
        dtype, device: of the images; default float32, "cpu".

    Errors: InputError for a share outside this range, for a mask that does not fit, and for both at once.
    """

    name = "inpainting_random"
    presets: ClassVar = {
        "paper": Preset(200, 100, 0.01, 0.22, 100),
        "natural": Preset(20, 100, 0.08, 0.22, 12, sigma_max=1.5, sigma_min=0.019, start="measurement"),
    }

    def __init__(
        self,
        shape: Sequence[int],
        seed: int = 0,
        missing: float | None = None,
        mask: Tensor | np.ndarray | str | os.PathLike | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        if mask is not None and missing is not None:
            raise InputError("a mask says itself which pixels are missing: leave mask or missing out")
        super().__init__(shape, mask_of(mask) if mask is not None else self.draw(shape, seed, missing), dtype, device)

    @staticmethod
    def draw(shape: Sequence[int], seed: int, missing: float | None) -> Tensor:
        height, width = shape[1:]
        rng = np.random.default_rng(seed)
        share = rng.uniform(0.70, 0.71) if missing is None else missing
        if not 0 <= share < 1:
            raise InputError(f"missing must be a share of the pixels from 0 up to 1, not {share}")
        mask = torch.ones(height * width, dtype=torch.float64)
        mask[torch.from_numpy(rng.permutation(height * width)[: int(share * height * width)])] = 0
        return mask.reshape(height, width)
