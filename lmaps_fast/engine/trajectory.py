"""The loop that every solver shares: one step after the other, each image for as many steps as it has."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from lmaps_fast.engine.graphs import StepGraphs
from lmaps_fast.engine.schedule import Schedule
from lmaps_fast.local_map import Problem
from lmaps_fast.solvers import Level, Solver, Step


def sample(
    solver: Solver,
    problem: Problem,
    schedule: Schedule,
    keys: Tensor,
    callback: Callable[[Step], object] | None = None,
    caller: Callable[[], Any] = nullcontext,
    graphs: StepGraphs | None = None,
) -> Tensor:
    """Run a solver and return the restored images.

    Images that have fewer steps than others leave the batch after their last; so every image costs its own network
    calls, and each step of the batch is one call.

    Args:
        solver, problem, schedule: of one batch.
        keys: [B] int64, of the images' noise.
        callback: called with a `Step` after each step.
        caller: a context in which callables of the user run.
        graphs: record the steps; None: do not.
    """
    like = torch.zeros(len(keys), *problem.operator.shape, dtype=problem.operator.dtype, device=keys.device)
    active, seen = list(range(len(keys))), (like.clone(), like)
    first = with_first_draw(schedule.level(0, keys, like, None, caller))
    state, graph = solver.start(problem, first), None
    for i in range(schedule.total):
        level = schedule.level(i, keys, like, active, caller)
        if graphs is not None:
            following = graphs.of(problem, state, level)
            if following is not graph:
                following.enter(problem, state)
                graph = following
            state = graph.step(level)
        else:
            state = solver.step(problem, state, level)
        ending = [n for n in active if schedule.lengths[n % len(schedule.lengths)] == i + 1]
        if ending or callback is not None:
            for whole, part in zip(seen, (solver.estimate(state), state.x), strict=True):
                whole[active] = part
        if callback is not None:
            callback(Step(i, schedule.total, of_all(schedule, i), *(image.clone() for image in seen)))
        if ending and len(ending) < len(active):
            stay = [position for position, n in enumerate(active) if n not in ending]
            active = [active[position] for position in stay]
            index = torch.tensor(stay, device=keys.device)
            problem, keys, like = problem.select(index), keys[index], like[: len(stay)]
            state, graph = type(state)(*(chosen(tensor, index) for tensor in state)), None
    return seen[0]


def with_first_draw(level: Level) -> Level:
    """The first level with draw 0, that of the start."""
    rows = level.rows.clone()
    rows[:, level.names.index("draw")] = 0
    return level.with_tensors([rows, *level.tensors()[1:]])


def chosen(tensor: Tensor, index: Tensor) -> Tensor:
    """Some images of a state's tensor, with its strides: kernels go by them, also where an axis has one entry."""
    shape = (len(index), *tensor.shape[1:])
    part = torch.empty_strided(shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device)
    return part.copy_(tensor[index])


def of_all(schedule: Schedule, step: int) -> float | tuple[float, ...]:
    """The noise levels of all images at a step, of those that have ended their last: one number where all agree."""
    values = [steps[min(step, len(steps) - 1)]["sigma"] for steps in schedule.host]
    return values[0] if len(set(values)) == 1 else tuple(values)
