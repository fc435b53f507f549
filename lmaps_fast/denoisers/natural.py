"""The embedded prior "natural": a small noise-conditional U-Net trained on photographs. Its card is natural.md."""

import math
import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmaps_fast.denoisers.base import EDM, Preconditioned, columns, convert, levels, without_autocast, working_dtype
from lmaps_fast.denoisers.state import load_exactly, read_state
from lmaps_fast.errors import InputError
from lmaps_fast.noise import DENOISER, seed_of
from lmaps_fast.ops import normal

WEIGHTS = Path(__file__).with_name("natural.safetensors")
SIZE_MULTIPLE = 8
GREY_KEY = seed_of(DENOISER, 0)


class ResidualBlock(nn.Module):
    """x + conv(silu(conv(x) (1 + gain) + shift)), with gain and shift linear in the noise embedding."""

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(channels, channels, 3, padding=1)
        self.b = nn.Conv2d(channels, channels, 3, padding=1)
        self.f = nn.Linear(embedding, 2 * channels)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        gain, shift = self.f(embedding)[:, :, None, None].chunk(2, 1)
        return x + self.b(F.silu(torch.addcmul(shift, self.a(x), 1 + gain)))


class Stack(nn.ModuleList):
    """Residual blocks one after the other."""

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        for block in self:
            h = block(h, embedding)
        return h


class UNet(nn.Module):
    """A U-Net on 2x2 pixel-unshuffled RGB images; fully convolutional, for sizes that are multiples of 8.

    x: [B, 3, H, W]; c_noise: [B]. The names of its parts are the keys of the weights file.
    """

    def __init__(self, channels: tuple[int, ...] = (64, 128, 192), blocks: int = 2, embedding: int = 128) -> None:
        super().__init__()

        def stack(width: int) -> Stack:
            return Stack(ResidualBlock(width, embedding) for _ in range(blocks))

        steps = list(pairwise(channels))
        self.emb = nn.Sequential(nn.Linear(64, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU())
        self.inp = nn.Conv2d(12, channels[0], 3, padding=1)
        self.enc = nn.ModuleList(stack(width) for width in channels[:-1])
        self.down = nn.ModuleList(nn.Conv2d(wide, deep, 2, stride=2) for wide, deep in steps)
        self.mid = stack(channels[-1])
        self.up = nn.ModuleList(nn.ConvTranspose2d(deep, wide, 2, stride=2) for wide, deep in steps)
        self.dec = nn.ModuleList(stack(width) for width in channels[:-1])
        self.out = nn.Conv2d(channels[0], 12, 3, padding=1)

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        # In float32 whatever the weights are: bfloat16 would shift the noise level by half a per cent.
        logs = torch.linspace(math.log(0.25), math.log(8.0), 32, dtype=torch.float32, device=x.device)
        angle = c_noise[:, None].float() * logs.exp()
        embedding = self.emb(torch.cat([angle.sin(), angle.cos()], 1).to(x.dtype))
        h, skips = self.inp(F.pixel_unshuffle(x, 2)), []
        for blocks, down in zip(self.enc, self.down, strict=True):
            h = blocks(h, embedding)
            skips.append(h)
            h = down(h)
        h = self.mid(h, embedding)
        for blocks, up in zip(reversed(self.dec), reversed(self.up), strict=True):
            h = blocks(up(h) + skips.pop(), embedding)
        return F.pixel_shuffle(self.out(h), 2)


def read_network(path: str | os.PathLike) -> UNet:
    """The network of a weights file, of the widths that its tensors have, in float32.

    Raises InputError for a file that is missing, damaged or hostile, and, naming what differs, for another network's.
    """
    state = read_state(path)
    try:
        channels = [state[f"enc.{i}.0.a.weight"].shape[0] for i in range(sum(_is(key, "down") for key in state))]
        channels.append(state["mid.0.a.weight"].shape[0])
        blocks, embedding = sum(_is(key, "mid") for key in state), state["emb.0.weight"].shape[0]
    except KeyError as error:
        raise InputError(f"{path}: these are the weights of another network: it lacks {error.args[0]}") from None
    with torch.device("meta"):
        network = UNet(tuple(channels), blocks, embedding)
    load_exactly(network, state, path)
    return network


def _is(key: str, part: str) -> bool:
    return key.startswith(f"{part}.") and key.endswith(".weight" if part == "down" else ".a.weight")


def fast_dtype(device: str) -> torch.dtype:
    """bfloat16 where the hardware multiplies it natively, else float32. natural.md states what bfloat16 costs."""
    if device == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    native = any(
        getattr(torch.cpu, check, lambda: False)() for check in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )
    return torch.bfloat16 if native else torch.float32


class _EDM(EDM):
    evaluate = without_autocast(EDM.evaluate)


class Natural:
    """The prior as a denoiser for photographs: RGB or grey, any height and width, sigma from .004 to 80.

    Other sizes than multiples of 8 are reflected at the right and bottom border.

    Grey images: the network was trained on noise that differs between channels. The mean of three such channels at
    level sqrt(3) sigma has noise of level sigma, so a grey image is given to it at that level, with the missing
    difference between channels drawn from a fixed seed, the same at every call (measured: 4 dB better at sigma .1 than
    three equal channels at sigma, and up to .8 dB better than without the drawn difference).

    Args:
        weights: a safetensors file with the keys of `UNet`, of any widths. Default the embedded ones.
        device: where the network is. Default "cpu".
        dtype: what the network computes in, under torch.autocast too. Default `fast_dtype`.

    Calls take sigma as a float or as a tensor [1 or B], and raise InputError for images that are neither RGB nor grey,
    or smaller than 8x8.
    """

    preset = "natural"
    sigma_range = (0.004, 80.0)
    batched_sigma = True

    def __init__(
        self, weights: str | os.PathLike = WEIGHTS, device: str = "cpu", dtype: torch.dtype | None = None
    ) -> None:
        dtype = dtype or fast_dtype(torch.device(device).type)
        network = convert(read_network(weights), dtype, device)
        self.denoise: Callable[[Tensor, Any], Tensor] = _EDM(network, dtype=dtype, recordable=True)

    @property
    def recordable(self) -> bool:
        """Whether a CUDA graph can hold a call; see `Denoiser`."""
        return getattr(self.denoise, "recordable", False)

    @without_autocast
    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        height, width = x.shape[2:]
        if x.shape[1] not in (1, 3) or min(height, width) < SIZE_MULTIPLE:
            raise InputError(
                f"the prior natural is for grey or RGB images of at least {SIZE_MULTIPLE}x{SIZE_MULTIPLE} pixels, not "
                f"{list(x.shape[1:])}: give a denoiser of your own"
            )
        padded = F.pad(x, (0, -width % SIZE_MULTIPLE, 0, -height % SIZE_MULTIPLE), mode="reflect")
        if x.shape[1] == 1:
            return self._grey(padded, sigma)[..., :height, :width]
        return self.denoise(padded, sigma)[..., :height, :width]

    def preconditioned(self, shape: Sequence[int]) -> Preconditioned | None:
        """The network for images [C, H, W] that it is called on as they are: RGB, sides multiples of 8, no tiles."""
        whole = shape[0] == 3 and shape[1] % SIZE_MULTIPLE == shape[2] % SIZE_MULTIPLE == 0
        return self.denoise if whole and isinstance(self.denoise, EDM) else None

    def _grey(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        level = math.sqrt(3) * levels(sigma, x)
        # Drawn at each call: a thousandth of the network's time, and nothing that a CUDA graph would have to keep.
        key = torch.full((1,), GREY_KEY, dtype=torch.int64, device=x.device)
        noise = normal(key, (3, *x.shape[2:]), dtype=working_dtype(x))
        noisy = x + columns(level, x) * (noise - noise.mean(1, keepdim=True))
        return self.denoise(noisy, level).mean(1, keepdim=True).to(x.dtype)
