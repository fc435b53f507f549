"""The priors of InverseBench (Zheng et al., 2025), through the networks of deepinv."""

import importlib
import os
import re
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lmaps_fast.denoisers.base import EDM, convert, rounded, without_autocast
from lmaps_fast.denoisers.state import load_exactly, read_state
from lmaps_fast.denoisers.vp import VP
from lmaps_fast.errors import InputError


class _EDM(EDM):
    sigma_range = (0.002, 80.0)  # of EDM's sampler; training draws ln(sigma) from a normal distribution
    evaluate = without_autocast(EDM.evaluate)


class _VP(VP):
    sigma_range = (0.001, 152.0)  # of t from 1e-5 to 1
    evaluate = without_autocast(VP.evaluate)


@dataclass(frozen=True)
class Card:
    """An architecture and its convention. architecture: ADMUNet or NCSNpp of deepinv, which are the networks
    DhariwalUNet and SongUNet of EDM."""

    architecture: str
    resolution: int
    channels: int
    multipliers: tuple[int, ...]
    denoiser: type[_EDM] | type[_VP]
    width: int = 128
    blocks: int = 1
    attention: tuple[int, ...] = (16,)


# The files of full waveform inversion and Navier-Stokes have the network of inverse_scattering, those of MRI (brain)
# that of mri_knee, whose channels are the real and the imaginary part.
CARDS = {
    "inverse_scattering": Card("ADMUNet", 128, 1, (1, 1, 1, 2, 2), _EDM),
    "mri_knee": Card("ADMUNet", 320, 2, (1, 1, 1, 2, 2), _EDM),
    "black_hole": Card("NCSNpp", 64, 1, (1, 2, 2), _VP),
}
WRAPPED = "model."  # the network's name within its preconditioning, with which files of training are written
FIRST = re.compile(rf"({re.escape(WRAPPED)})?enc\.(\d+)x\2_conv\.weight")
LAST = {"out_conv.weight": "ADMUNet", "dec.{0}x{0}_aux_conv.weight": "NCSNpp"}


class Bare(nn.Module):
    """network(x, condition) without what deepinv puts around it: preconditioning, images in [0, 1] and classes.

    x: [B, C, H, W] with the card's C channels and sides that are multiples of 2^(levels - 1). Raises InputError for
    other shapes.
    """

    def __init__(self, network: nn.Module, card: Card) -> None:
        super().__init__()
        self.network, self.channels, self.multiple = network, card.channels, 2 ** (len(card.multipliers) - 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        if x.shape[1] != self.channels or x.shape[2] % self.multiple or x.shape[3] % self.multiple:
            raise InputError(
                f"this prior is for images of {self.channels} channel(s) whose sides are multiples of {self.multiple}, "
                f"not {list(x.shape[1:])}: give another denoiser"
            )
        return self.network.forward_unet(x, condition)  # type: ignore[operator]


def recognizes(state: dict[str, Tensor]) -> bool:
    """Whether these weights have the keys of EDM's networks."""
    return any(FIRST.fullmatch(key) for key in state)


def load(
    path: str | os.PathLike,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    state: dict[str, Tensor] | None = None,
) -> EDM | VP:
    """A raw checkpoint, such as inv-scatter-5m.pt, mri-knee.pt or blackhole.pt, as a denoiser.

    Which of `CARDS` it is follows from its keys and shapes. ADMUNet: D of `EDM` with sigma_data .5; NCSNpp: D of `VP`,
    eps-prediction with linear betas. Its images are those of its training: scaled to [-1, 1], or a standard deviation
    of about .5. Sizes other than the card's run, but were not trained. Needs the optional package deepinv.

    Args:
        path: the file.
        device: where the network is. Default "cpu".
        dtype: what the network computes in, under torch.autocast too. Default float32.
        state: what the file holds, if it was read already.

    Raises:
        InputError: where deepinv is missing, for a file that is no checkpoint, that would run code, or that belongs to
            another architecture.
    """
    state = read_state(path) if state is None else state
    state = {key.removeprefix(WRAPPED): value for key, value in state.items()}
    card = _card(state, path)
    with torch.device("meta"):
        network = build(card)
    load_exactly(network, state, path)
    # The embedding of the noise level is computed in float32 and rounded where it enters its first layer.
    network.map_layer0.register_forward_pre_hook(partial(rounded, dtype))  # type: ignore[union-attr]
    return card.denoiser(convert(Bare(network, card), dtype, device), dtype=dtype, recordable=True)


def build(card: Card, **changes: Any) -> nn.Module:
    """The network of a card, with random weights. changes: of the arguments of deepinv's class."""
    try:
        models = importlib.import_module("deepinv.models")
    except ImportError:
        raise InputError(
            "InverseBench checkpoints need the package deepinv: pip install 'lmaps_fast[deepinv]'"
        ) from None
    arguments: dict[str, Any] = {
        "img_resolution": card.resolution,
        "in_channels": card.channels,
        "out_channels": card.channels,
        "model_channels": card.width,
        "channel_mult": card.multipliers,
        "num_blocks": card.blocks,
        "attn_resolutions": card.attention,
        "augment_dim": 0,
        "dropout": 0.0,
        "pretrained": None,
    }
    if card.architecture == "NCSNpp":
        arguments["model_type"] = "ddpm"  # DDPM++: positional embedding, no residual paths beside the encoder
    return getattr(models, card.architecture)(**{**arguments, **changes})


def _card(state: dict[str, Tensor], path: str | os.PathLike) -> Card:
    """The card whose architecture, resolution and channels these weights have."""
    found = next((match for key in state if (match := FIRST.fullmatch(key))), None)
    known = f"one of the networks of InverseBench that are known here ({', '.join(CARDS)})"
    if found is None:
        raise InputError(f"{path}: this is not {known}")
    resolution, channels = int(found[2]), state[found[0]].shape[1]
    kinds = [name for key, name in LAST.items() if key.format(resolution) in state]
    for card in CARDS.values():
        if [card.architecture] == kinds and (card.resolution, card.channels) == (resolution, channels):
            return card
    kind = kinds[0] if kinds else "part of a network"
    raise InputError(f"{path}: this {kind} for images {channels}x{resolution}x{resolution} is not {known}")
