"""Denoising: y = x + noise."""

from collections.abc import Sequence

import torch

from lmaps_fast.operators.structures import Diagonal


class Denoising(Diagonal):
    """A(x) = x: the diagonal operator whose mask is 1 everywhere."""

    name = "denoising"

    def __init__(self, shape: Sequence[int], dtype: torch.dtype = torch.float32, device: str = "cpu") -> None:
        super().__init__(shape, torch.ones(tuple(shape[1:])), dtype, device)
