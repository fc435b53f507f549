"""What every solver has: settings, noise levels, a state and one step.

A solver is written for one batch of images of which each may have levels of its own: what differs between images and
steps is a column of `Level`, to be broadcast with the images.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from lmaps_fast import operators, ops
from lmaps_fast.denoisers import Denoiser
from lmaps_fast.errors import InputError
from lmaps_fast.levels import COLUMNS
from lmaps_fast.local_map import Problem
from lmaps_fast.operators import Operator
from lmaps_fast.weights import Weights, WeightTable


@dataclass(frozen=True)
class Step:
    """What a callback sees after step `index` of `total`: the noise level (of each image where they differ), the
    estimate x0 and the next state x, both [B, C, *spatial]. An image that has ended keeps its last."""

    index: int
    total: int
    sigma: float | tuple[float, ...]
    x0: Tensor
    x: Tensor


class State(NamedTuple):
    """What most solvers carry from step to step: x at the next noise level, and the estimate x0."""

    x: Tensor
    x0: Tensor


class Level:
    """One step of a batch: a row of numbers for each image, or one row for all; each is also an attribute,
    [1 or B, 1, ...], to be broadcast with the images.

    rows: float64 [1 or B, n] on the device, with columns `names`: sigma and sigma_next, draw (the number of the step's
    first draw), and those of the solver. keys: [B] int64. host: the same rows on the host. last: whether sigma_next is
    0 for all. narrow: the rows in float32, if they are there already. caller: a context in which callables of the
    user run.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        rows: Tensor,
        keys: Tensor,
        host: Sequence[dict[str, float]],
        like: Tensor,
        last: bool,
        caller: Callable[[], Any] = nullcontext,
        narrow: Tensor | None = None,
    ) -> None:
        self.names, self.rows, self.keys, self.host, self.last, self.caller = names, rows, keys, host, last, caller
        self.dtype, self.dimensions = like.dtype, like.dim()
        self.narrow = rows.float() if narrow is None else narrow
        self.steps = rows[:, : len(COLUMNS)].contiguous() if names[: len(COLUMNS)] == COLUMNS else rows[:, :0]
        self.table = self.steps[:, :4].contiguous()

    def __getattr__(self, name: str) -> Tensor:
        names = vars(self).get("names", ())
        if name not in names:
            raise AttributeError(name)
        rows = self.narrow if self.dtype == torch.float32 else self.rows
        column = rows[:, names.index(name)].to(self.dtype)
        return column.view(-1, *[1] * (self.dimensions - 1))

    def each(self, name: str, dtype: torch.dtype = torch.float64) -> Tensor:
        """A column in float64 or float32, [B]."""
        rows = self.rows if dtype == torch.float64 else self.narrow
        return rows[:, self.names.index(name)].expand(len(self.keys)).contiguous()

    def on_host(self, name: str) -> list[float]:
        """A column on the host, [1 or B]."""
        return [row[name] for row in self.host]

    @property
    def weights(self) -> WeightTable:
        """Those of the local MAP, of a solver that has its columns."""
        most = max(int(row["K"]) for row in self.host)
        known = tuple(Weights(row["lam"], row["k2"], row["lr"], int(row["K"])) for row in self.host)
        return WeightTable(self.table, most, known)

    def add_normal(self, x: Tensor, sigma: Tensor, draw: int = 0) -> Tensor:
        """x + sigma eps, with one of the draws of this step. sigma: [1 or B, 1, ...]."""
        number = self.rows[:, self.names.index("draw")].long() + draw
        return ops.add_normal(x, self.keys, number, sigma.flatten().contiguous())

    def normal(self, like: Tensor, draw: int = 0) -> Tensor:
        """Standard normal numbers, with one of the draws of this step."""
        return self.add_normal(torch.zeros_like(like), self.rows.new_ones(1), draw)

    def tensors(self) -> list[Tensor]:
        """All tensors that it reads."""
        return [self.rows, self.narrow, self.keys, self.steps, self.table]

    def with_tensors(self, tensors: list[Tensor]) -> "Level":
        """The same level with other tensors, in the order of `tensors`."""
        other = object.__new__(Level)
        vars(other).update(vars(self))
        other.rows, other.narrow, other.keys, other.steps, other.table = tensors
        return other


class Solver:
    """A solver for one denoiser.

    needs: which abilities of an operator it asks for, of which one is enough. differentiates: whether it asks for the
    denoiser's gradient. recordable: whether its step can be recorded in a CUDA graph. uses_noise: whether its
    settings follow the noise of y. draws: how many draws of noise a step makes. alike: which settings must be the same
    for all images of a batch. Settings: a frozen dataclass.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    differentiates: ClassVar[bool] = False
    recordable: ClassVar[bool] = True
    uses_noise: ClassVar[bool] = False
    draws: ClassVar[int] = 1
    alike: ClassVar[tuple[str, ...]] = ()
    Settings: ClassVar[type]

    def __init__(self, operator: Operator, denoiser: Denoiser, backend: str | None = None) -> None:
        """operator: of the kind that is to be restored. Raises InputError for one that lacks what the solver needs."""
        operators.require(operator, self.name, self.needs)
        self.denoiser: Any = denoiser  # which may take a level for each image
        self.backend = backend

    @classmethod
    def published(cls, task: str, noise: float | None = None) -> Any:
        """The published settings for a task. noise: standard deviation of the measurement's, where the solver takes it;
        None: the protocol's. Raises InputError for a task without published settings."""
        raise NotImplementedError

    def check(self, operator: Operator, settings: Any) -> None:
        """Raise InputError where settings do not suit an operator."""

    def sigmas(self, settings: Any) -> list[float]:
        """The noise levels of an image, from high to low, ending in 0."""
        raise NotImplementedError

    def columns(self, operator: Operator, settings: Any, sigma: float, sigma_next: float, share: float) -> dict:
        """The numbers of one step of one image, by name. share: how many of the steps are behind, 0 to below 1."""
        return {}

    def start(self, problem: Problem, level: Level) -> Any:
        """The state before the first step, a NamedTuple of tensors with x and x0. level: the first; its draw is 0."""
        x = level.add_normal(problem.guess, level.sigma)
        return State(x, x)

    def step(self, problem: Problem, state: Any, level: Level) -> Any:
        """From the state at level.sigma to that at level.sigma_next. May overwrite it."""
        raise NotImplementedError

    def estimate(self, state: Any) -> Tensor:
        """The restored images of a state."""
        return state.x0

    def denoise(self, x: Tensor, level: Level, name: str = "sigma") -> Tensor:
        """D(x, sigma), with the level in a column of that name, in the type of x.

        A denoiser that says that it takes a level for each image gets them all. Another one gets a float, and where
        levels differ it is called for each of them.
        """
        with level.caller():
            if getattr(self.denoiser, "batched_sigma", False):
                return fitting(self.denoiser(x, level.each(name)), x)
            values = level.on_host(name)
            if len(set(values)) == 1:
                return fitting(self.denoiser(x, values[0]), x)
            D = torch.empty_like(x)
            for value in dict.fromkeys(values):
                chosen = [n for n, other in enumerate(values) if other == value]
                D[chosen] = fitting(self.denoiser(x[chosen], value), x[chosen])
            return D

    def with_vjp(self, x: Tensor, level: Level, name: str = "sigma") -> tuple[Tensor, Callable[..., Tensor]]:
        """D(x, sigma), and v -> (dD/dx)^T v, which can be called again after `keep=True`. Raises InputError for a
        denoiser without gradients."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            D = self.denoise(x, level, name)
        if not D.requires_grad:
            raise InputError("this solver needs the gradient of the denoiser, which has none: call it without no_grad")

        def vjp(v: Tensor, keep: bool = False) -> Tensor:
            return torch.autograd.grad(D, x, v, retain_graph=keep)[0]

        return D.detach(), vjp


def fitting(D: object, x: Tensor) -> Tensor:
    """What a denoiser returned, in the type and layout of x. Raises InputError for what is no image like x."""
    if not isinstance(D, Tensor) or D.shape != x.shape or D.device != x.device:
        what = f"a tensor {list(D.shape)} on {D.device}" if isinstance(D, Tensor) else f"a {type(D).__name__}"
        raise InputError(f"the denoiser returned {what}: it must return a tensor {list(x.shape)} on {x.device}")
    return D.to(x.dtype).contiguous()


def sum_of_each(v: Tensor) -> Tensor:
    """The sum over each image, [B, 1, ...]. On a CPU image by image: the order of a sum depends on the batch there."""
    sums = torch.stack([image.sum() for image in v]) if v.device.type == "cpu" else v.flatten(1).sum(1)
    return sums.view(-1, *[1] * (v.dim() - 1))
