"""CUDA graphs: a function of tensors, recorded once for each shape and replayed as one launch."""

import warnings
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor

from lmaps_fast.errors import InputError

Replay = Callable[[], None]


class Captured:
    """function(*inputs), whose kernels run as one CUDA graph.

    function takes tensors on one GPU and returns a tensor; everything else that it depends on is fixed at the first
    call with a shape. It is called twice then: once to warm up (caches, FFT plans, compilation), and once for the
    recording. Further calls copy the inputs to the graph's own, replay it, and return a copy of its output: no launch
    from Python, no allocation, and no wait for the GPU. The graphs of the `limit` shapes (and types) that were used
    last are kept.

    A function that cannot be recorded (it waits for the GPU, or replays graphs of its own as torch.compile's
    "reduce-overhead" does) is called as it is from then on; `reason` says why, as does a UserWarning. Inside a
    recording of the caller's the function is called as it is, once it has been called outside with such shapes.
    """

    def __init__(self, function: Callable[..., Tensor], limit: int = 4) -> None:
        if limit < 1:
            raise InputError(f"limit must be at least 1, not {limit}: a graph is kept to be replayed")
        self.function, self.limit = function, limit
        self.reason: str | None = None
        self._graphs: OrderedDict[tuple, tuple[Replay, list[Tensor], Tensor]] = OrderedDict()

    def __call__(self, *inputs: Tensor) -> Tensor:
        key = tuple((tensor.shape, tensor.dtype, tensor.device) for tensor in inputs)
        if recording():
            if key not in self._graphs and self.reason is None:
                raise InputError(
                    f"the stream is being captured, but shape {list(inputs[0].shape)} is new: call this once with that "
                    f"shape before the capture"
                )
            return self.function(*inputs)
        if key not in self._graphs and self.reason is None:
            self._record(key, inputs)
        if self.reason is not None:
            return self.function(*inputs)
        self._graphs.move_to_end(key)
        replay, own, output = self._graphs[key]
        for mine, given in zip(own, inputs, strict=True):
            mine.copy_(given)
        replay()
        return output.clone()

    def _record(self, key: tuple, inputs: tuple[Tensor, ...]) -> None:
        own = [tensor.clone() for tensor in inputs]
        try:
            replay, output = record(self.function, own)
        except RuntimeError as error:
            self.reason = f"it cannot be recorded as a CUDA graph: {str(error).strip().splitlines()[0]}"
            warnings.warn(f"running without a CUDA graph, since {self.reason}", stacklevel=3)
            return
        self._graphs[key] = (replay, own, output)
        if len(self._graphs) > self.limit:
            self._graphs.popitem(last=False)


def recording() -> bool:
    """Whether the current CUDA stream is being captured."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def record(function: Callable[..., Tensor], inputs: list[Tensor]) -> tuple[Replay, Tensor]:
    """A graph of function(*inputs) and the tensor that a replay writes. Raises RuntimeError where it has none."""
    with torch.cuda.device(inputs[0].device):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            function(*inputs)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = function(*inputs)
    return graph.replay, output
