"""The front door: restore(...) for one call, Restorer for many."""

import math
import os
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lmaps_fast import denoisers, door, presets, solvers
from lmaps_fast.denoisers import Denoiser
from lmaps_fast.engine.graphs import StepGraphs
from lmaps_fast.engine.schedule import Schedule
from lmaps_fast.engine.trajectory import sample, with_first_draw
from lmaps_fast.errors import InputError
from lmaps_fast.local_map import Problem
from lmaps_fast.noise import SAMPLER, keys, seed_of
from lmaps_fast.operators import Operator
from lmaps_fast.ops import backends
from lmaps_fast.presets import Preset
from lmaps_fast.solvers import Solver, Step
from lmaps_fast.solvers.base import sum_of_each

# Pixels up to which the network is called on the whole image. At this size "natural" takes 3 GB in float32, and the
# sampler's images, about 100 bytes per pixel, 1 GB: what a machine of 8 GB has to spare.
AUTOMATIC_TILING = 3072 * 3072
BEYOND = 1.5  # how far noise levels may leave those of training unsaid: the paper's 100 is nothing to a prior up to 80


class Restorer:
    """A restoration that is set up once and called for many measurements; threads may share one.

    Args:
        operator: A, one for all images, or `operators.stack` of one for each.
        denoiser: a name, a path, or any callable (x, sigma) -> mean; default "natural", the embedded prior.
        solver: a name of `solvers.REGISTRY`; default "lmaps".
        steps: noise levels N, for all images or one number for each; default: those of the settings.
        preset: of lmaps "paper", "natural" or a `Preset`; of other solvers their settings; one for all images or one
            for each. Default: the table that was measured for the denoiser if there is one, else the paper's; of other
            solvers the published settings.
        backend: see `use_backend`; default: the quickest that can run.
        batch: call the network, and on a GPU record the steps, now for this many images, so that the first restoration
            finds everything allocated and compiled; default: at the first call.
        tile: the network is called on overlapping tiles of at most tile x tile pixels (see `denoisers.Tiled`), while
            the local MAP stays that of the whole image; 0: never. Default: tiles of 1024 for images of more than
            3072 x 3072 pixels, for others none.
        runs: how many restorations to make from different noise, of which that with the least |A(x) - y| is kept, for
            each image; default: the operator's own, 4 for phase retrieval, else 1.
        noise: standard deviation of the measurement's noise, for all images or one number for each, which the tables
            measured for a denoiser and the solvers with sigma_y follow; default: the protocol's.
        graphs: record each step as a CUDA graph; results are equal bit for bit. Default: on GPUs, where operator,
            solver and denoiser say that they can be recorded.
        hyper_parameters: of the settings, by keyword, for all images: inner_steps, lr, k1, k2, sigma_max and others.

    Errors: InputError for what it does not know or cannot heed, and for settings whose steps diverge.
    """

    def __init__(
        self,
        operator: Operator,
        denoiser: str | os.PathLike | Denoiser = "natural",
        solver: str = "lmaps",
        steps: int | Sequence[int] | None = None,
        preset: Any = None,
        backend: str | None = None,
        batch: int | None = None,
        tile: int | None = None,
        runs: int | None = None,
        noise: float | Sequence[float] | None = None,
        graphs: bool | None = None,
        **hyper_parameters: float | str | None,
    ) -> None:
        if solver not in solvers.REGISTRY:
            raise InputError(f"unknown solver {solver!r}: choose one of {', '.join(solvers.REGISTRY)}")
        backends.requested(backend)
        self.operator, self.backend = operator, backend
        self.denoiser = denoisers.load(denoiser, device=str(operator.device))
        if tile is None:
            tile = denoisers.TILE if math.prod(operator.shape[1:]) > AUTOMATIC_TILING else 0
        if tile:
            self.denoiser = denoisers.on_tiles(self.denoiser, tile)
        self.given = {"steps": steps, "preset": preset, "noise": noise, "hyper_parameters": hyper_parameters}
        with door.known_modes(operator.device), backends.use_backend(backends.requested(backend)):
            self.solver: Solver = solvers.REGISTRY[solver](operator, self.denoiser, backend)
            self.schedule = self._schedule(operator)
        self._warn_of_levels()
        self.runs = operator.runs if runs is None else runs
        presets.whole("runs", self.runs)
        self.graphs = StepGraphs(self.solver) if self._records(graphs) else None
        if batch is not None:
            self._warm_up(batch)

    def __call__(
        self,
        y: Tensor | np.ndarray,
        seed: int | Sequence[int] = 0,
        images: Sequence[int] | None = None,
        callback: Callable[[Step], object] | None = None,
        operator: Operator | None = None,
    ) -> Tensor:
        """Restore measurements to images, not clipped.

        The noise of image i comes from its seed and its number, so that it does not depend on the batch.

        Args:
            y: [B, *measurement_shape], a tensor or an array of floating point.
            seed: a whole number for all images, or one for each, which then all have the number 0; default 0.
            images: their numbers; default 0, 1, ...
            callback: called with a `Step` after each step.
            operator: another one of the same kind, whose numbers are used instead; default: that of the restorer.

        Returns: images [B, C, *spatial], in and around [-1, 1].
        Errors: InputError for measurements that do not fit, and an operator of another kind.
        """
        with door.known_modes(self.operator.device) as caller, backends.use_backend(backends.requested(self.backend)):
            operator, schedule = self._operator(operator)
            y = operator.check_measurement(y)
            self._check_count(schedule, len(y))
            seeds, images = each_seed(seed, images, len(y))
            if not len(y):
                return torch.zeros(0, *operator.shape, dtype=operator.dtype, device=operator.device)
            problem = Problem(operator, y, self.backend)
            best = self._sample(problem, schedule, key_of_each(seeds, images), callback, caller)
            for run in range(1, self.runs):
                again = key_of_each([seed_of(SAMPLER, seed, run) for seed in seeds], images)
                other = self._sample(problem, schedule, again, callback, caller)
                better = misfit(problem, other) < misfit(problem, best)
                best = torch.where(better.view(-1, *[1] * (best.dim() - 1)), other, best)
            return best

    @property
    def settings(self) -> list[Any]:
        """The settings of the images: one for all, or one for each."""
        return self._settings(self.operator)

    def _sample(self, problem: Problem, schedule: Schedule, keys_: list[int], callback: Any, caller: Any) -> Tensor:
        numbers = torch.tensor(keys_, dtype=torch.int64, device=problem.y.device)
        with self.graphs.lent() if self.graphs is not None else nullcontext() as graphs:
            return sample(self.solver, problem, schedule, numbers, callback=callback, caller=caller, graphs=graphs)

    def _operator(self, other: Operator | None) -> tuple[Operator, Schedule]:
        if other is None or other is self.operator:
            return self.operator, self.schedule
        if other.kind != self.operator.kind:
            raise InputError(
                f"this restorer is for another kind of operator: {self.operator.kind.difference(other.kind)}; make a "
                f"Restorer for this one"
            )
        return other, self._schedule(other)

    def _check_count(self, schedule: Schedule, count: int) -> None:
        if len(schedule.lengths) not in (1, count):
            raise InputError(f"y holds {count} images but there are settings for {len(schedule.lengths)}: give as many")

    def _schedule(self, operator: Operator) -> Schedule:
        settings = self._settings(operator)
        for n, each in enumerate(settings):
            self.solver.check(operator.image(n) if len(settings) > 1 else operator, each)
        return Schedule(self.solver, operator, settings)

    def _settings(self, operator: Operator) -> list[Any]:
        columns = [as_list(self.given[name]) for name in ("steps", "preset", "noise")]
        count = max(operator.batch, *(len(column) for column in columns))
        if any(len(column) not in (1, count) for column in columns):
            raise InputError(f"steps, preset and noise are for {count} images: give one value, or one for each")
        each = [self._setting(operator, n, *(column[n % len(column)] for column in columns)) for n in range(count)]
        return each[:1] if all(setting == each[0] for setting in each) else each

    def _setting(self, operator: Operator, n: int, steps: int | None, preset: Any, noise: float | None) -> Any:
        if noise is not None and not 0 <= noise < math.inf:
            raise InputError(f"noise must be finite and not negative, not {noise}")
        solver = self.solver
        if solver.name != "lmaps":
            if isinstance(preset, str | Preset):
                raise InputError(f"presets are those of lmaps: leave preset out, or give settings of {solver.name}")
            if noise is not None and not solver.uses_noise:
                raise InputError(f"{solver.name} does not use the noise of y: leave noise out")
            settings: Any = solver.published(operator.name, noise) if preset is None else preset
            if not isinstance(settings, solver.Settings):
                raise InputError(f"preset is a {type(settings).__name__}: give a {solver.Settings.__name__}")
            if noise is not None:
                if self.given["hyper_parameters"].get("sigma_y") is not None:
                    raise InputError("noise and sigma_y are one number: give one of them")
                settings = presets.override(settings, sigma_y=noise)
        elif isinstance(preset, Preset):
            if noise is not None:
                raise InputError("a Preset of your own does not follow the noise: leave noise or preset out")
            settings = preset
        else:
            table = str(preset or getattr(self.denoiser, "preset", "paper"))
            if table == "paper" and noise is not None and noise != operator.noise:
                raise InputError("the paper's table is for the protocol's noise: leave noise out, or give a Preset")
            settings = operator.preset(table, n, noise)
        given: dict[str, Any] = {"steps": steps, **self.given["hyper_parameters"]}
        return presets.override(settings, **given)

    def _warn_of_levels(self) -> None:
        low, high = getattr(self.denoiser, "sigma_range", (0.0, math.inf))
        sigmas = [row["sigma"] for steps in self.schedule.host for row in steps]
        if max(sigmas) > BEYOND * high or min(sigmas) < low / BEYOND:
            warnings.warn(
                f"the noise levels {min(sigmas):g} to {max(sigmas):g} leave those that the prior was trained on, "
                f"{low:g} to {high:g}: set sigma_max and sigma_min within these",
                stacklevel=3,
            )

    def _records(self, graphs: bool | None) -> bool:
        device = self.operator.device
        if graphs and device.type != "cuda":
            raise InputError(f"CUDA graphs need an operator on a GPU, not on {device}: leave graphs out")
        parts = {
            f"the solver {self.solver.name}": self.solver.recordable,
            self.operator.name: self.operator.recordable,
            "the denoiser": all(getattr(self.denoiser, name, False) for name in ("recordable", "batched_sigma")),
        }
        refusing = [name for name, recordable in parts.items() if not recordable]
        if graphs and refusing:
            raise InputError(
                f"{' and '.join(refusing)} cannot be recorded in a CUDA graph: leave graphs out, or give a denoiser "
                f"whose attributes batched_sigma and recordable are true"
            )
        return device.type == "cuda" and graphs is not False and not refusing

    def _warm_up(self, batch: int) -> None:
        """Of a restoration that is to be recorded all, of others the first step."""
        presets.whole("batch", batch)
        operator, solver, schedule = self.operator, self.solver, self.schedule
        x = torch.zeros(batch, *operator.shape, dtype=operator.dtype, device=operator.device)
        if self.graphs is not None:
            self(operator(x))
            return
        with door.known_modes(operator.device) as caller, backends.use_backend(backends.requested(self.backend)):
            self._check_count(schedule, batch)
            problem = Problem(operator, operator(x), self.backend)
            level = schedule.level(0, keys(SAMPLER, 0, range(batch), x.device), x, None, caller)
            solver.step(problem, solver.start(problem, with_first_draw(level)), level)


def each_seed(seed: int | Sequence[int], images: Sequence[int] | None, count: int) -> tuple[list[int], list[int]]:
    """The seed and the number of each image."""
    one = not isinstance(seed, Sequence | np.ndarray)
    seeds: list[int] = [seed] * count if one else list(seed)  # type: ignore[arg-type, list-item]
    numbers = list(images) if images is not None else list(range(count)) if one else [0] * count
    for what, given in (("seed", seeds), ("images", numbers)):
        if len(given) != count:
            raise InputError(f"{what} names {len(given)} images but y holds {count}: give one number for each")
    if one:
        seed_of(SAMPLER, seed)  # type: ignore[arg-type]  # which an empty batch does not use
    return seeds, numbers


def key_of_each(seeds: Sequence[int], images: Sequence[int]) -> list[int]:
    return [seed_of(SAMPLER, seed, image) for seed, image in zip(seeds, images, strict=True)]


def as_list(value: Any) -> list:
    return list(value) if isinstance(value, list | tuple) else [value]


def misfit(problem: Problem, x: Tensor) -> Tensor:
    """|A(x) - y|^2 of each image, [B]."""
    return sum_of_each((problem.A.forward(x) - problem.y).abs().square()).flatten()


def restore(
    y: Tensor | np.ndarray,
    operator: Operator,
    denoiser: str | os.PathLike | Denoiser = "natural",
    solver: str = "lmaps",
    steps: int | Sequence[int] | None = None,
    seed: int | Sequence[int] = 0,
    callback: Callable[[Step], object] | None = None,
    **options: Any,
) -> Tensor:
    """Restore measurements to images, not clipped.

    Args:
        y: [B, *measurement_shape], a tensor or an array of floating point.
        operator, denoiser, solver, steps: see `Restorer`.
        seed, callback: see `Restorer.__call__`.
        options: further ones of `Restorer`, by keyword.

    Returns: images [B, C, *spatial], in and around [-1, 1].
    Errors: InputError for what it does not know or cannot heed.
    """
    return Restorer(operator, denoiser, solver, steps, **options)(y, seed, callback=callback)
