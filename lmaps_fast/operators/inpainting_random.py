"""Random inpainting: y = m x + noise, where m is 0 in a random share of the pixels."""

import os
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lmaps_fast.errors import InputError
from lmaps_fast.operators.mask import mask_of
from lmaps_fast.operators.structures import Diagonal


class InpaintingRandom(Diagonal):
    """int(p H W) pixels, drawn without replacement, are missing in all channels; p ~ U(.70, .71).

    seed: draws p and the pixels. missing: p instead of a drawn one. mask: a tensor or image file instead of a drawn
    one (1 or white = known). Protocol of DAPS.
    """

    name = "inpainting_random"

    def __init__(
        self,
        shape: Sequence[int],
        seed: int = 0,
        missing: float | None = None,
        mask: Tensor | str | os.PathLike | None = None,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
    ) -> None:
        super().__init__(shape, mask_of(mask) if mask is not None else self.draw(shape, seed, missing), dtype, device)

    @staticmethod
    def draw(shape: Sequence[int], seed: int, missing: float | None) -> Tensor:
        height, width = shape[1:]
        rng = np.random.default_rng(seed)
        share = rng.uniform(0.70, 0.71) if missing is None else missing
        if not 0 <= share < 1:
            raise InputError(f"missing must be a share of the pixels from 0 up to 1, not {share}")
        mask = torch.ones(height * width)
        mask[torch.from_numpy(rng.permutation(height * width)[: int(share * height * width)])] = 0
        return mask.reshape(height, width)
