"""Denoisers: the protocol, the embedded prior, exact oracles, tiles, and `load`."""

import os
from collections.abc import Callable

import torch

from lmaps_fast.denoisers.base import EDM, Denoiser
from lmaps_fast.denoisers.gaussian import Gaussian
from lmaps_fast.denoisers.natural import Natural
from lmaps_fast.denoisers.tiled import TILE, Tiled, on_tiles
from lmaps_fast.errors import InputError

NAMES: dict[str, Callable[..., Denoiser]] = {"natural": Natural}


def load(
    source: str | os.PathLike | Denoiser = "natural", device: str = "cpu", dtype: torch.dtype | None = None
) -> Denoiser:
    """A denoiser from a name ("natural"), a safetensors file for the network of "natural", or any callable as it is.

    Raises InputError for an unknown name and for a file that does not hold such a network.
    """
    if callable(source):
        return source
    if str(source) in NAMES:
        return NAMES[str(source)](device=device, dtype=dtype)
    if not os.path.exists(source):
        raise InputError(f"{str(source)!r} is neither a prior ({', '.join(NAMES)}) nor a file")
    return Natural(source, device=device, dtype=dtype)


__all__ = ["EDM", "NAMES", "TILE", "Denoiser", "Gaussian", "Natural", "Tiled", "load", "on_tiles"]
