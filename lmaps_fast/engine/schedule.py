"""All levels of a batch, computed once for its settings: a row of numbers for each step and image."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from lmaps_fast.errors import InputError
from lmaps_fast.levels import COLUMNS
from lmaps_fast.operators import Operator
from lmaps_fast.solvers import Level, Solver


class Schedule:
    """The levels of one setting for all images, or of one for each; images may have different numbers of steps.

    lengths: the steps of each, [1 or B]. total: the longest. Raises InputError for settings that cannot share a batch.
    """

    def __init__(self, solver: Solver, operator: Operator, settings: Sequence[Any]) -> None:
        for name in solver.alike:
            if len({getattr(each, name) for each in settings}) > 1:
                raise InputError(
                    f"{solver.name} takes one {name} for all images of a batch: give one, or restore them one after "
                    f"the other"
                )
        self.host = [steps_of(solver, operator, each) for each in settings]
        self.lengths = [len(steps) for steps in self.host]
        self.total = max(self.lengths)
        found = tuple(self.host[0][0])
        # Those of the fused step come first, so that its rows are a part of these.
        first = COLUMNS if all(name in found for name in COLUMNS) else ()
        self.names = (*first, *(name for name in found if name not in first))
        # An image that has ended keeps its last row: it has left the batch by then.
        padded = [[steps[min(i, len(steps) - 1)] for steps in self.host] for i in range(self.total)]
        rows = [[[float(row[name]) for name in self.names] for row in step] for step in padded]
        self.rows = torch.tensor(rows, dtype=torch.float64).to(operator.device)  # [total, 1 or B, n]
        self.narrow = self.rows.float()  # once for all, so that no step has to

    def level(
        self,
        step: int,
        keys: Tensor,
        like: Tensor,
        images: Sequence[int] | None = None,
        caller: Callable[[], Any] = nullcontext,
    ) -> Level:
        """The level of a step, for some images of the batch or all. keys: theirs. like: images."""
        rows, narrow, chosen = self.rows[step], self.narrow[step], range(len(self.host))
        if images is not None and len(self.host) > 1:
            rows, narrow, chosen = rows[list(images)], narrow[list(images)], images  # type: ignore[assignment]
        host = [self.host[n][min(step, self.lengths[n] - 1)] for n in chosen]
        last = all(step == self.lengths[n] - 1 for n in chosen)
        return Level(self.names, rows, keys, host, like=like, last=last, caller=caller, narrow=narrow)


def steps_of(solver: Solver, operator: Operator, settings: Any) -> list[dict[str, float]]:
    """The rows of one setting. The first draw of step i is i draws of a step after that of the start."""
    sigmas = solver.sigmas(settings)
    total = len(sigmas) - 1
    return [
        {
            "sigma": sigmas[i],
            "sigma_next": sigmas[i + 1],
            "draw": 1 + i * solver.draws,
            **solver.columns(operator, settings, sigmas[i], sigmas[i + 1], i / total),
        }
        for i in range(total)
    ]
