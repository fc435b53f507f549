"""A user's mask."""

import os

from torch import Tensor


def mask_of(mask: Tensor | str | os.PathLike) -> Tensor:
    """A tensor as it is, or an image file in which white is known and black is missing."""
    if isinstance(mask, Tensor):
        return mask
    from lmaps_fast import image

    return (image.read(mask).pixels.mean(1) > 0).double()
