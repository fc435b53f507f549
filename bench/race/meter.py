"""What a restoration costs: calls of the network and of the operator, and the seconds that the network takes."""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cache, wraps
from typing import Any

import torch
from torch import Tensor

from lmaps_fast.denoisers import Denoiser, Preconditioned
from lmaps_fast.errors import InputError
from lmaps_fast.operators import Operator

# What solvers call an operator by. One call of `gradient` is one, not the A and the A^T inside it; a collapsed local
# MAP is one too.
OPERATOR_METHODS = (
    "forward",
    "linear",
    "adjoint",
    "gradient",
    "local_map",
    "prox",
    "pinv",
    "to_eigenbasis",
    "from_eigenbasis",
    "spectrum",
    "from_spectrum",
    "measured_coefficients",
)


@dataclass(eq=False)  # equal to itself alone, and so hashable: it is part of a counted operator's kind
class Counts:
    """Of one restoration. gradient_calls are those of the network_calls of which the gradient was taken; their seconds
    include it. operator_calls: of OPERATOR_METHODS; a fused step, which is a kernel and no call, counts as none."""

    network_calls: int = 0
    gradient_calls: int = 0
    operator_calls: int = 0
    network_seconds: float = 0.0
    inside: int = field(default=0, init=False)  # of how many calls of the operator we are

    def reset(self) -> None:
        for each in fields(self):
            setattr(self, each.name, each.default)

    @contextmanager
    def timed(self, device: torch.device) -> Iterator[None]:
        start = now(device)
        yield
        self.network_seconds += now(device) - start


def now(device: torch.device) -> float:
    """Seconds, when the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class Metered:
    """A denoiser whose calls are counted and timed, gradients included. All it can do beside that stays possible, but
    for CUDA graphs: a replay would be neither counted nor timed."""

    recordable = False

    def __init__(self, denoiser: Denoiser, counts: Counts) -> None:
        self.denoiser: Any = denoiser  # which may take a level for each image
        self.counts, self.batched_sigma = counts, getattr(denoiser, "batched_sigma", False)
        for name in ("preset", "sigma_range"):
            if hasattr(denoiser, name):
                setattr(self, name, getattr(denoiser, name))

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        self.counts.network_calls += 1
        if torch.is_grad_enabled() and x.requires_grad:
            self.counts.gradient_calls += 1
            return _Differentiable.apply(x, sigma, self)
        with self.counts.timed(x.device):
            return self.denoiser(x, sigma)

    def preconditioned(self, shape: Sequence[int]) -> Preconditioned | None:
        network = getattr(self.denoiser, "preconditioned", lambda shape: None)(shape)
        return None if network is None else MeteredNetwork(network, self.counts)


class MeteredNetwork:
    """The same for a network in linear maps, as the fused step calls it: those maps are not the network's time."""

    def __init__(self, network: Preconditioned, counts: Counts) -> None:
        self.network, self.counts, self.dtype = network, counts, network.dtype
        self.preconditioning, self.condition = network.preconditioning, network.condition

    def evaluate(self, scaled: Tensor, condition: Tensor) -> Tensor:
        self.counts.network_calls += 1
        with self.counts.timed(scaled.device):
            return self.network.evaluate(scaled, condition)


class _Differentiable(torch.autograd.Function):
    """One call of a denoiser as one node of the graph, so that the way back is timed as well."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sigma: float | Tensor, metered: Metered) -> Tensor:
        ctx.counts = metered.counts
        with torch.enable_grad(), ctx.counts.timed(x.device):
            ctx.x = x.detach().requires_grad_()
            ctx.D = metered.denoiser(ctx.x, sigma)
        if not ctx.D.requires_grad:
            raise InputError("this solver needs the gradient of the denoiser, which has none: call it without no_grad")
        return ctx.D.detach()

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor, None, None]:
        with ctx.counts.timed(v.device):
            (gradient,) = torch.autograd.grad(ctx.D, ctx.x, v, retain_graph=True)
        return gradient, None, None


def counted(operator: Operator, counts: Counts) -> Operator:
    """The same operator, on the same tensors, that counts the calls of its methods."""
    twin: Any = copy.copy(operator)
    twin.__class__, twin.counts = _counting_class(twin.__class__), counts
    return twin


@cache  # every class of operators is registered with torch for good, so there is one for each
def _counting_class(kind: Any) -> type[Operator]:
    methods = {name: _counting(getattr(kind, name)) for name in OPERATOR_METHODS if hasattr(kind, name)}
    return type(kind.__name__, (kind,), methods)


def _counting(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(self: Any, *arguments: Any, **options: Any) -> Any:
        counts = self.counts
        counts.operator_calls += not counts.inside
        counts.inside += 1
        try:
            return method(self, *arguments, **options)
        finally:
            counts.inside -= 1

    return call
