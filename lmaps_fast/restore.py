"""The front door: restore(...) for one call, Restorer for many."""

import os
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lmaps_fast import denoisers, presets, solvers
from lmaps_fast.denoisers import Denoiser
from lmaps_fast.errors import InputError
from lmaps_fast.operators import Operator
from lmaps_fast.presets import Preset
from lmaps_fast.solvers import Step, sample


class Restorer:
    """A restoration that is set up once and called for many measurements.

    denoiser: a name, a path, or any callable (x, sigma) -> mean. preset: "paper", "natural" or a Preset; the table
    measured for the denoiser if there is one, else the paper's. steps: network calls N, the preset's unless given;
    further hyper-parameters of the preset by keyword (inner_steps, lr, k1, k2, sigma_max, sigma_min, rho).
    backend: see `lmaps_fast.use_backend`. batch: call the network once now for this many images, so that the first
    restoration finds everything allocated and compiled. Raises InputError for what it does not know.
    """

    def __init__(
        self,
        operator: Operator,
        denoiser: str | os.PathLike | Denoiser = "natural",
        solver: str = "lmaps",
        steps: int | None = None,
        preset: str | Preset | None = None,
        backend: str | None = None,
        batch: int | None = None,
        **hyper_parameters: float | None,
    ) -> None:
        if solver not in solvers.REGISTRY:
            raise InputError(f"unknown solver {solver!r}: choose one of {', '.join(solvers.REGISTRY)}")
        self.operator = operator
        self.denoiser = denoisers.load(denoiser, device=str(operator.device))
        if not isinstance(preset, Preset):
            preset = presets.get(operator.name, str(preset or getattr(self.denoiser, "preset", "paper")))
        self.preset = preset.override(steps=steps, **hyper_parameters)
        self.solver = solvers.REGISTRY[solver](operator, self.denoiser, self.preset, backend)
        if batch is not None:
            x = torch.zeros(batch, *operator.shape, dtype=operator.dtype, device=operator.device)
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
        return sample(self.solver, y, self.operator.shape, seed, images, callback)


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
