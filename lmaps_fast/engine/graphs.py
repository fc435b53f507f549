"""CUDA graphs: a function of tensors, or one step of a solver, recorded once for a shape and replayed as one launch."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lmaps_fast.errors import InputError
from lmaps_fast.local_map import Problem
from lmaps_fast.solvers import Level, Solver

Replay = Callable[[], None]


def signature(tensors: Sequence[Tensor]) -> tuple:
    """What must be equal for a graph to serve other tensors."""
    return tuple((tensor.shape, tensor.stride(), tensor.dtype, tensor.device) for tensor in tensors)


def recording() -> bool:
    """Whether the current CUDA stream is being captured."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def record(function: Callable[[], None], device: torch.device) -> Replay:
    """Call a function once to warm up and record its second call; the replay of what was recorded."""
    with torch.cuda.device(device):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            function()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            function()
    return graph.replay


class Captured:
    """function(*inputs), whose kernels run as one CUDA graph.

    A graph owns everything that it reads: the inputs are copied to its own, and a copy of its output is returned. Calls
    are served one after the other, also those of several threads.

    Args:
        function: takes tensors on one GPU and returns a tensor; everything else that it depends on is fixed at the
            first call with a shape, when it is called twice. It must not read values on the host.
        limit: graphs of so many shapes and types are kept, those that were used last; default 4.

    Errors: InputError for a limit below 1, and inside a capture of the caller's for a shape that is new.
    """

    def __init__(self, function: Callable[..., Tensor], limit: int = 4) -> None:
        if limit < 1:
            raise InputError(f"limit must be at least 1, not {limit}: a graph is kept to be replayed")
        self.function, self.limit = function, limit
        self._graphs: OrderedDict[tuple, tuple[Replay, list[Tensor], list[Tensor]]] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, *inputs: Tensor) -> Tensor:
        key = signature(inputs)
        if recording():
            if key not in self._graphs:
                raise InputError(
                    f"the stream is being captured, but shape {list(inputs[0].shape)} is new: call this once with that "
                    f"shape before the capture"
                )
            return self.function(*inputs)
        with self._lock:
            if key not in self._graphs:
                self._graphs[key] = self._record(inputs)
                if len(self._graphs) > self.limit:
                    self._graphs.popitem(last=False)
            self._graphs.move_to_end(key)
            replay, own, output = self._graphs[key]
            for mine, given in zip(own, inputs, strict=True):
                mine.copy_(given)
            replay()
            return output[0].clone()

    def _record(self, inputs: Sequence[Tensor]) -> tuple[Replay, list[Tensor], list[Tensor]]:
        own, output = [tensor.clone() for tensor in inputs], [inputs[0]]

        def run() -> None:
            output[0] = self.function(*own)

        return record(run, inputs[0].device), own, output


class StepGraph:
    """One step of a solver as a CUDA graph: measurement, numbers of the operator, keys, row of levels and state are its
    inputs, and stay in its own tensors from step to step. So one graph serves all steps of a batch size but the last,
    other operators of the same kind, other settings and other seeds. `enter` comes before the first step."""

    def __init__(self, solver: Solver, problem: Problem, state: Any, level: Level) -> None:
        self.problem = problem.with_tensors([tensor.clone() for tensor in problem.tensors()])
        self.level = level.with_tensors([tensor.clone() for tensor in level.tensors()])
        self.state = type(state)(*(tensor.clone() for tensor in state))

        def run() -> None:
            for mine, made in zip(self.state, solver.step(self.problem, self.state, self.level), strict=True):
                if mine is not made:
                    mine.copy_(made)

        self.replay = record(run, problem.y.device)

    def enter(self, problem: Problem, state: Any) -> None:
        """Take over a measurement and a state."""
        copy_all(self.problem.tensors(), problem.tensors())
        copy_all(self.state, state)

    def step(self, level: Level) -> Any:
        """Take the step of a level; the graph's own state."""
        copy_all(self.level.tensors(), level.tensors())
        self.replay()
        return self.state


def copy_all(to: Sequence[Tensor], source: Sequence[Tensor]) -> None:
    for mine, given in zip(to, source, strict=True):
        mine.copy_(given)


class StepGraphs:
    """The graphs of a solver's steps, by batch size and kind; `limit` of them are kept, those that were used last."""

    def __init__(self, solver: Solver, limit: int = 16) -> None:
        self.solver, self.limit = solver, limit
        self._lock, self._lent = threading.RLock(), False
        self._graphs: OrderedDict[tuple, StepGraph] = OrderedDict()

    @contextmanager
    def lent(self) -> Iterator["StepGraphs | None"]:
        """These graphs for one whole restoration, whose state is in their tensors. Other threads wait; a restoration
        that the callback of this one starts gets None, and runs without."""
        with self._lock:
            free, self._lent = not self._lent, True
            try:
                yield self if free else None
            finally:
                self._lent = not free

    def of(self, problem: Problem, state: Any, level: Level) -> StepGraph:
        """The graph of a step like this one, recorded if it is new."""
        tensors = [*problem.tensors(), *state, *level.tensors()]
        most = max(int(row.get("K", 0)) for row in level.host)
        # What is 0 for all images, such as the noise of the next level in the last step, may be left out by a step.
        zero = tuple(name for name in level.names if not any(level.on_host(name)))
        with level.caller():  # what a network is cast to is recorded too
            device = problem.y.device.type
            cast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        key = (problem.operator.kind, problem.backend, most, zero, cast, signature(tensors))
        if key not in self._graphs:
            self._graphs[key] = StepGraph(self.solver, problem, state, level)
            if len(self._graphs) > self.limit:
                self._graphs.popitem(last=False)
        self._graphs.move_to_end(key)
        return self._graphs[key]
