"""The public ADM checkpoints (Dhariwal & Nichol, 2021), through the networks of azula."""

import os
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lmaps_fast.denoisers.base import convert, rounded, without_autocast
from lmaps_fast.denoisers.state import load_exactly, read_state
from lmaps_fast.denoisers.vp import VP
from lmaps_fast.errors import InputError

# By base channels, the first thing in which the published networks differ: azula's name of the architecture.
ARCHITECTURES = {128: "ffhq_256x256", 256: "imagenet_256x256"}
FIRST = "input_blocks.0.0.weight"


class ADM(VP):
    """A raw checkpoint, ffhq_10m.pt or 256x256_diffusion_uncond.pt, as a denoiser for RGB images of 256x256 pixels.

    Other sizes, in multiples of 64, run, but were not trained. The betas are linear and the network predicts eps;
    timesteps are fractional and nothing is clipped. Needs the optional package azula.

    Args:
        path: the file.
        device: where the network is. Default "cpu".
        dtype: what the network computes in, under torch.autocast too; normalizations in float32. Default float32.
        state: what the file holds, if it was read already.

    Raises:
        InputError: where azula is missing, for a file that is no checkpoint, that would run code, or that belongs to
            another architecture.
    """

    preset = "paper"

    def __init__(
        self,
        path: str | os.PathLike,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        state: dict[str, Tensor] | None = None,
    ) -> None:
        state = read_state(path) if state is None else state
        if FIRST not in state or state[FIRST].shape[0] not in ARCHITECTURES:
            known = " and ".join(ARCHITECTURES.values())
            raise InputError(f"{path}: this is not one of the ADM networks that are known here ({known})")
        with torch.device("meta"):
            network = build(ARCHITECTURES[state[FIRST].shape[0]])
        load_exactly(network, state, path)
        super().__init__(convert(network, dtype, device), dtype=dtype, recordable=True)
        keep_sensitive_parts(self.network, dtype)

    @without_autocast
    def evaluate(self, scaled: Tensor, condition: Tensor) -> Tensor:
        # azula makes the frequencies of its time embedding on the default device. From the CPU they would be copied to
        # the GPU at each call, for which a CUDA graph has no place.
        with scaled.device:
            return super().evaluate(scaled, condition)


def recognizes(state: dict[str, Tensor]) -> bool:
    """Whether these weights have the keys of an ADM network."""
    return FIRST in state


def build(architecture: str, **changes: Any) -> nn.Module:
    """The network of one of azula's cards, with random weights. changes: of its configuration, for smaller ones."""
    try:
        from azula.plugins import adm
        from azula.plugins.utils import load_cards
    except ImportError:
        raise InputError("ADM checkpoints need the package azula: pip install 'lmaps_fast[adm]'") from None
    return adm.make_model(**{**load_cards(adm)[architecture].config, **changes}).backbone


def keep_sensitive_parts(network: nn.Module, dtype: torch.dtype) -> None:
    """Normalizations stay in float32, as the published half-precision networks have it; the time embedding, which is
    computed in float32, is rounded where it enters its first layer."""
    for module in network.modules():
        if isinstance(module, nn.GroupNorm):
            module.float()
    network.time_embed.register_forward_pre_hook(partial(rounded, dtype))  # type: ignore[union-attr]
