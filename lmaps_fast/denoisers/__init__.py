"""Denoisers: the protocol, the embedded prior, public checkpoints, adapters, exact oracles, tiles, and `load`."""

import os

import torch

from lmaps_fast.denoisers import adm, inversebench
from lmaps_fast.denoisers.adapters import from_deepinv_denoiser, from_diffusers
from lmaps_fast.denoisers.adm import ADM
from lmaps_fast.denoisers.base import EDM, Denoiser, Preconditioned
from lmaps_fast.denoisers.checkpoints import CHECKPOINTS, download, folder
from lmaps_fast.denoisers.gaussian import Gaussian
from lmaps_fast.denoisers.mixture import GaussianMixture
from lmaps_fast.denoisers.natural import Natural, fast_dtype
from lmaps_fast.denoisers.state import read_state
from lmaps_fast.denoisers.tiled import TILE, Tiled, on_tiles
from lmaps_fast.denoisers.vp import VP
from lmaps_fast.errors import InputError

NAMES = ("natural", *CHECKPOINTS)


def load(
    source: str | os.PathLike | Denoiser = "natural", device: str = "cpu", dtype: torch.dtype | None = None
) -> Denoiser:
    """A denoiser from a name, a file, or any callable as it is. The random state of torch stays as it is.

    Args:
        source: "natural" (the default) is the embedded prior; "ffhq" and "imagenet" are the public ADM checkpoints
            where they were downloaded (`lmaps-fast download`). A file, told by its keys: a raw checkpoint of ADM or of
            InverseBench (.pt, .pth or .safetensors), or weights for the network of "natural" (.safetensors).
        device: where the network is. Default "cpu".
        dtype: what the network computes in. Default bfloat16 where the hardware has it, else float32.

    Raises:
        InputError: for an unknown name and for a file that holds no such network.
    """
    if callable(source):
        return source
    name = str(source)
    if name == "natural":
        return Natural(device=device, dtype=dtype)
    if name in CHECKPOINTS:
        source = folder() / CHECKPOINTS[name].file
        if not source.exists():
            raise InputError(f"{source} is not there: fetch it with `lmaps-fast download {name}`")
    elif not os.path.exists(source):
        raise InputError(f"{name!r} is neither a prior ({', '.join(NAMES)}) nor a file")
    state, chosen = read_state(source), dtype or fast_dtype(torch.device(device).type)
    if name not in CHECKPOINTS and inversebench.recognizes(state):
        return inversebench.load(source, device, chosen, state)
    if name in CHECKPOINTS or name.endswith((".pt", ".pth")) or adm.recognizes(state):
        return ADM(source, device, chosen, state)
    return Natural(source, device=device, dtype=dtype)


__all__ = [
    "ADM",
    "EDM",
    "NAMES",
    "TILE",
    "VP",
    "Denoiser",
    "Gaussian",
    "GaussianMixture",
    "Natural",
    "Preconditioned",
    "Tiled",
    "download",
    "from_deepinv_denoiser",
    "from_diffusers",
    "load",
    "on_tiles",
]
