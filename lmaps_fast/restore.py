"""The front door: restore(...) for one call, Restorer for many."""

import math
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lmaps_fast import denoisers, presets, solvers
from lmaps_fast.denoisers import Denoiser
from lmaps_fast.errors import InputError
from lmaps_fast.graphs import Captured
from lmaps_fast.operators import Operator
from lmaps_fast.presets import Preset
from lmaps_fast.renoise import SAMPLER, Noise, seed_of
from lmaps_fast.solvers import Step, published, sample

# Pixels up to which the network is called on the whole image. At this size "natural" takes 3 GB in float32, and the
# sampler's images, about 100 bytes per pixel, 1 GB: what a machine of 8 GB has to spare.
AUTOMATIC_TILING = 3072 * 3072
BEYOND = 1.5  # how far noise levels may leave those of training unsaid: the paper's 100 is nothing to a prior up to 80


class Restorer:
    """A restoration that is set up once and called for many measurements.

    denoiser: a name, a path, or any callable (x, sigma) -> mean. solver: one of `solvers.REGISTRY`. preset:
    "paper", "natural" or a Preset; the table measured for the denoiser if there is one, else the paper's. Of other
    solvers: their settings, the published ones unless given. steps: noise levels N, the preset's unless given; further
    hyper-parameters of the preset by keyword (inner_steps, lr, k1, k2, sigma_max, sigma_min, rho, start).
    backend: see `lmaps_fast.use_backend`. batch: on a CPU call the network, on a GPU record the restoration, now for
    this many images, so that the first restoration finds everything allocated and compiled. tile: the network is called
    on overlapping tiles of at most tile x tile pixels (see `denoisers.Tiled` for their memory and exactness), while the
    local MAP stays that of the whole image; None: tiles of 1024 for images of more than AUTOMATIC_TILING = 3072 x 3072
    pixels, for others none; 0: never, for denoisers that must see the whole image. runs: how many restorations to make
    from different noise, of which that with the least |A(x) - y| is kept, for each image (the operator's own: 4 for
    phase retrieval, else 1). noise: standard deviation of the measurement's noise, by which the tables that were
    measured for a denoiser are scaled; the protocol's unless given. graphs: record the whole restoration as a CUDA
    graph per shape of y (see `graphs.Captured`), with results equal bit for bit; on GPUs unless False. A callback runs
    without. Raises InputError for what it does not know.
    """

    def __init__(
        self,
        operator: Operator,
        denoiser: str | os.PathLike | Denoiser = "natural",
        solver: str = "lmaps",
        steps: int | None = None,
        preset: str | Preset | Any = None,
        backend: str | None = None,
        batch: int | None = None,
        tile: int | None = None,
        runs: int | None = None,
        noise: float | None = None,
        graphs: bool | None = None,
        **hyper_parameters: float | str | None,
    ) -> None:
        if solver not in solvers.REGISTRY:
            raise InputError(f"unknown solver {solver!r}: choose one of {', '.join(solvers.REGISTRY)}")
        self.operator = operator
        self.denoiser = denoisers.load(denoiser, device=str(operator.device))
        if tile is None:
            tile = denoisers.TILE if operator.shape[1] * operator.shape[2] > AUTOMATIC_TILING else 0
        if tile:
            self.denoiser = denoisers.on_tiles(self.denoiser, tile)
        settings: Any = preset
        if solver != "lmaps":
            if isinstance(preset, str | Preset):
                raise InputError(f"presets are those of lmaps: leave preset out, or give settings of {solver}")
            settings = published.get(solver, operator.name, noise) if preset is None else preset
        elif not isinstance(preset, Preset):
            settings = presets.fitting(operator, str(preset or getattr(self.denoiser, "preset", "paper")), noise)
        self.preset = presets.override(settings, steps=steps, **hyper_parameters)
        self.solver = solvers.REGISTRY[solver](operator, self.denoiser, self.preset, backend)
        low, high = getattr(self.denoiser, "sigma_range", (0.0, math.inf))
        if self.solver.sigmas[0] > BEYOND * high or self.solver.sigmas[-2] < low / BEYOND:
            warnings.warn(
                f"the noise levels {self.solver.sigmas[-2]:g} to {self.solver.sigmas[0]:g} leave those that the prior "
                f"was trained on, {low:g} to {high:g}: set sigma_max and sigma_min within these",
                stacklevel=2,
            )
        self.runs = operator.runs if runs is None else runs
        if self.runs < 1:
            raise InputError(f"runs must be at least 1, not {self.runs}")
        if graphs is None:
            graphs = operator.device.type == "cuda"
        elif graphs and operator.device.type != "cuda":
            raise InputError(f"CUDA graphs need an operator on a GPU, not on {operator.device}: leave graphs out")
        self.graphs = Captured(self._trajectory) if graphs else None
        if batch is not None:
            x = torch.zeros(batch, *operator.shape, dtype=operator.dtype, device=operator.device)
            if self.graphs is not None:
                self(operator(x))
            else:
                self.denoiser(x, self.solver.sigmas[0])

    def __call__(
        self,
        y: Tensor,
        seed: int = 0,
        images: Sequence[int] | None = None,
        callback: Callable[[Step], object] | None = None,
    ) -> Tensor:
        """Restore measurements y, [B, ...], to images [B, C, H, W] in [-1, 1] (not clipped).

        The noise of image i comes from (seed, images[i]), with images = 0, 1, ... unless given, so that a result does
        not depend on the batch it was in. callback: called with a Step after each network call.
        """
        self.operator.check_measurement(y)
        images = range(len(y)) if images is None else images
        if len(images) != len(y):
            raise InputError(f"images names {len(images)} images but y holds {len(y)}: give one number for each")
        best = self._sample(y, seed, images, callback)
        for run in range(1, self.runs):
            other = self._sample(y, seed_of(SAMPLER, seed, run), images, callback)
            better = self._misfit(other, y) < self._misfit(best, y)
            best = torch.where(better[:, None, None, None], other, best)
        return best

    def _sample(self, y: Tensor, seed: int, images: Sequence[int], callback: Callable[[Step], object] | None) -> Tensor:
        keys = Noise(SAMPLER, seed, images, self.operator.shape, device=y.device).keys
        if self.graphs is not None and callback is None:
            return self.graphs(y, keys)
        return self._trajectory(y, keys, callback)

    def _trajectory(self, y: Tensor, keys: Tensor, callback: Callable[[Step], object] | None = None) -> Tensor:
        noise = Noise.of_keys(keys, self.operator.shape, self.operator.dtype)
        return sample(self.solver, y, noise, callback)

    @torch.no_grad()
    def _misfit(self, x: Tensor, y: Tensor) -> Tensor:
        return (self.operator(x) - y).abs().square().flatten(1).sum(1)


def restore(
    y: Tensor,
    operator: Operator,
    denoiser: str | os.PathLike | Denoiser = "natural",
    solver: str = "lmaps",
    steps: int | None = None,
    seed: int = 0,
    callback: Callable[[Step], object] | None = None,
    **options: object,
) -> Tensor:
    """Restore measurements y [B, ...] of an operator to images [B, C, H, W]; see `Restorer` for the options."""
    return Restorer(operator, denoiser, solver, steps, **options)(y, seed, callback=callback)  # type: ignore[arg-type]
