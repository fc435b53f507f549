"""A user's mask."""

import os

import numpy as np
import torch
from torch import Tensor


def mask_of(mask: Tensor | np.ndarray | str | os.PathLike) -> Tensor:
    """A tensor or an array as it is, or an image file in which white is known and black is missing."""
    if isinstance(mask, Tensor | np.ndarray):
        return torch.as_tensor(mask)
    from lmaps_fast.files import image

    return (image.read(mask).pixels.mean(1)[0] > 0).double()
