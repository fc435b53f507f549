"""Denoisers on overlapping tiles, for images whose network call does not fit in memory."""

from collections.abc import Callable
from copy import copy
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lmaps_fast.denoisers.base import Denoiser
from lmaps_fast.denoisers.natural import Natural
from lmaps_fast.errors import InputError

ALIGNMENT = 8  # the stride of the embedded network: its tiles must lie on the grid of the untiled call
SMALLEST_TILE = 64
TILE = 1024
OVERLAP = 192  # twice the 90 pixels that a cut reaches into the embedded network's result, and a ramp of 12


class Tiled:
    """D(x) = sum_i w_i D_i(x), with D_i the wrapped denoiser on tile i alone and sum_i w_i = 1.

    x: [B, C, H, W]. An image that fits in one tile is passed on as it is. Else the tiles of an image share one size,
    at most tile x tile, so that a compiled network sees one shape; they start at multiples of 8; and each image of
    the batch goes tile by tile, so that the network's memory depends neither on the image nor on the batch. Sizes that
    are no multiples of 8 are reflected at the right and bottom border for the call, as `Natural` does.

    w_i is a product over the two axes. Along an axis it changes over linearly in the middle sixteenth of an overlap and
    is 0 from there to the rim of the tile, where the context is cut off. Where (overlap - overlap // 16) / 2 is no less
    than the distance that a cut reaches, the result is that of the untiled call, to rounding. In the network of
    "natural" a cut reaches 90 pixels: 192 is exact. Below that its effect falls off fast: after 56 pixels (tiles of
    256) at most 1e-6 is left at sigma .1, 2e-4 at sigma 1 and 2e-3 at sigma 10. Tiles below 256 show in images with
    large holes. A denoiser that must see the whole image, such as one with global attention, is not to be tiled.

    Memory of the network of "natural", measured on a CPU: .3 to .4 kB per pixel in float32, half of it in bfloat16. So
    a tile of 1024 costs .4 GB and one of 2048 1.3 GB, whatever the image, beside three copies of the image. Time: up to
    (tile / (tile - overlap))^2 of the untiled call, 1.5 at 1024 and 1.2 at 2048.

    Args:
        denoiser: any, but `on_tiles` knows better for "natural". Its attributes are those of the tiled one.
        tile: in pixels, at least 64, a multiple of 8. Default 1024.
        overlap: what neighbouring tiles share at least, in pixels, a multiple of 8 from 0 to less than tile / 2.
            Default 192, or the most that a tile below 392 permits.

    Raises:
        InputError: for a tile or an overlap outside these ranges.
    """

    def __init__(self, denoiser: Denoiser, tile: int = TILE, overlap: int | None = None) -> None:
        if tile < SMALLEST_TILE or tile % ALIGNMENT:
            raise InputError(f"tile must be a multiple of {ALIGNMENT} and at least {SMALLEST_TILE}, not {tile}")
        if overlap is None:
            overlap = min(OVERLAP, (tile - 1) // (2 * ALIGNMENT) * ALIGNMENT)
        if not 0 <= overlap < tile / 2 or overlap % ALIGNMENT:
            raise InputError(
                f"overlap must be a multiple of {ALIGNMENT} from 0 to less than half the tile of {tile}, not {overlap}"
            )
        self.denoiser: Callable[[Tensor, Any], Tensor] = denoiser
        self.tile, self.overlap = tile, overlap

    @property
    def batched_sigma(self) -> bool:
        """Whether the wrapped denoiser takes a level for each image."""
        return getattr(self.denoiser, "batched_sigma", False)

    @property
    def recordable(self) -> bool:
        """Whether a CUDA graph can hold a call of the wrapped denoiser."""
        return getattr(self.denoiser, "recordable", False)

    @property
    def preset(self) -> str:
        """The wrapped denoiser's table of hyper-parameters. AttributeError where it has none, as on itself."""
        return self.denoiser.preset  # type: ignore[attr-defined]

    @property
    def sigma_range(self) -> tuple[float, float]:
        """That of the wrapped denoiser. AttributeError where it has none."""
        return self.denoiser.sigma_range  # type: ignore[attr-defined]

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        height, width = x.shape[2:]
        if not len(x):
            return torch.empty_like(x)
        if max(height, width) <= self.tile:
            return self.denoiser(x, sigma).to(x.dtype)
        padded = F.pad(x, (0, -width % ALIGNMENT, 0, -height % ALIGNMENT), mode="reflect")
        rows, columns = (self._intervals(size, x.device) for size in padded.shape[2:])
        out = torch.zeros_like(padded)
        for n in range(len(x)):
            level = sigma[n : n + 1] if isinstance(sigma, Tensor) and sigma.numel() > 1 else sigma
            for top, bottom, vertical in rows:
                for left, right, horizontal in columns:
                    place = (slice(n, n + 1), slice(None), slice(top, bottom), slice(left, right))
                    weight = torch.outer(vertical.to(x), horizontal.to(x))
                    out[place].addcmul_(self.denoiser(padded[place], level), weight)
        return out[..., :height, :width]

    def _intervals(self, size: int, device: torch.device) -> list[tuple[int, int, Tensor]]:
        """(start, end, weight [end - start] in float64) of each tile along an axis of `size` pixels.

        As few as possible, then as short as possible. With r_i the ramp that rises from 0 to 1 in the middle of the
        overlap of tiles i - 1 and i, and r_0 = 1, the weight of tile i is r_i - r_{i+1}: the sum telescopes to 1.
        """
        count = max(1, -((self.overlap - size) // (self.tile - self.overlap)))
        length = -(-(size + (count - 1) * self.overlap) // (count * ALIGNMENT)) * ALIGNMENT
        room = (size - length) // ALIGNMENT
        starts = [i * room // max(1, count - 1) * ALIGNMENT for i in range(count)]
        centres = torch.arange(size, dtype=torch.float64, device=device) + 0.5
        ramp = max(1, self.overlap // 16)
        middles = [(start + previous + length) / 2 for previous, start in pairwise(starts)]
        inner = [((centres - middle) / ramp + 0.5).clamp(0, 1) for middle in middles]
        rises = [torch.ones_like(centres), *inner, torch.zeros_like(centres)]
        weights = [rise - following for rise, following in pairwise(rises)]
        return [(s, s + length, w[s : s + length]) for s, w in zip(starts, weights, strict=True)]


def on_tiles(denoiser: Denoiser, tile: int = TILE, overlap: int | None = None) -> Denoiser:
    """`Tiled` where it is exact: around the network of "natural", around the whole of any other denoiser.

    `Natural` draws what a grey image lacks for the shape of its input. Outside of that, tiles would be given other
    draws than the image (measured on a grey photograph with a large hole: up to .14 dB).

    Args:
        denoiser, tile, overlap: see `Tiled`, which also says what is raised.
    """
    if not isinstance(denoiser, Natural):
        return Tiled(denoiser, tile, overlap)
    tiled = copy(denoiser)
    tiled.denoise = Tiled(denoiser.denoise, tile, overlap)
    return tiled
