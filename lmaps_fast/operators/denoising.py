"""Denoising: y = x + noise."""

from collections.abc import Sequence
from typing import ClassVar

import torch

from lmaps_fast.operators.structures import Diagonal
from lmaps_fast.presets import Preset


class Denoising(Diagonal):
    """A(x) = x: the diagonal operator whose mask is 1 everywhere.

    Args:
        shape: (C, *spatial) of the images.
        dtype, device: of the images; default float32, "cpu".
    """

    name = "denoising"
    presets: ClassVar = {
        # Table 4 has no row for denoising: these weights are the ones of the other tasks with noise .05.
        "paper": Preset(200, 100, 0.01, 0.22, 100),
        "natural": Preset(20, 100, 0.08, 0.22, 12, sigma_max=0.094, sigma_min=0.012, start="measurement"),
    }

    def __init__(
        self, shape: Sequence[int], dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(shape, torch.ones(tuple(shape[1:]), dtype=torch.float64), dtype, device)
