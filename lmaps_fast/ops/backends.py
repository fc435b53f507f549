"""Which implementation of an operation runs, in one place.

Order of authority: the `backend` argument, `with use_backend(...)`, the environment variable LMAPS_FAST_BACKEND, and
else the first of AUTOMATIC for the tensor's device that can run. A backend that is asked for and cannot run raises
with the reason; only the automatic choice steps down.
"""

import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, TypeVar

import torch

from lmaps_fast.errors import InputError

# "torch" is the collapsed form in PyTorch; "reference" is the K-step loop of the paper, whatever it costs.
BACKENDS = ("cuda", "triton", "cpu", "torch", "reference")
AUTOMATIC = {"cuda": ("cuda", "triton", "torch"), "cpu": ("cpu", "torch")}

Function = TypeVar("Function", bound=Callable[..., Any])

UNSET = "unset"
_chosen: ContextVar[str | None] = ContextVar("lmaps_fast_backend", default=UNSET)
# What is chosen in all threads at the moment, by an object for each choice: a thread that has none of its own takes the
# latest of these. Each line that uses it is one operation of a dict, so that threads need no lock.
_open: dict[object, str | None] = {}


def requested(backend: str | None = None) -> str | None:
    """The backend that was asked for, or None for the automatic choice. Raises InputError for an unknown name."""
    own = _chosen.get()
    if own == UNSET:
        own = [None, *_open.values()][-1]
    name = backend or own or os.environ.get("LMAPS_FAST_BACKEND") or None
    if name is not None and name not in BACKENDS:
        raise InputError(f"unknown backend {name!r}: choose one of {', '.join(BACKENDS)}")
    return name


@contextmanager
def use_backend(name: str | None) -> Iterator[None]:
    """Run what is inside with one backend.

    `with lf.use_backend("reference"): ...` holds for this thread, and for threads that make no choice of their own,
    such as those of a pool, as long as it is open.

    Args:
        name: one of "cuda", "triton", "cpu", "torch", "reference"; None is the automatic choice.

    Errors: InputError for another name.
    """
    if name is not None and name not in BACKENDS:
        raise InputError(f"unknown backend {name!r}: choose one of {', '.join(BACKENDS)}")
    choice, token = object(), _chosen.set(name)
    _open[choice] = name
    try:
        yield
    finally:
        del _open[choice]
        _chosen.reset(token)


@cache
def native() -> Any:
    """The extension lmaps_fast._C, or the reason (a str) why it cannot be imported."""
    try:
        from lmaps_fast import _C  # type: ignore[attr-defined]
    except ImportError as error:
        return f"the native extension is not built ({error})"
    return _C


@cache
def _triton_reason() -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if os.environ.get("TRITON_INTERPRET") == "1" or torch.cuda.is_available():
        return None
    return "triton needs a GPU (or TRITON_INTERPRET=1)"


def unavailable(backend: str, device: str) -> str | None:
    """Why `backend` cannot run on tensors of this device type, or None if it can."""
    if backend in ("torch", "reference"):
        return None
    if backend == "triton":
        interpreted = os.environ.get("TRITON_INTERPRET") == "1"
        if device != "cuda" and not interpreted:
            return f"triton kernels run on GPU tensors, not on {device}"
        return _triton_reason()
    if backend != device:
        return f"the {backend} kernels run on {backend} tensors, not on {device}"
    extension = native()
    if isinstance(extension, str):
        return extension
    if backend == "cuda":
        if not extension.cuda_architectures:
            return "the extension was built without CUDA"
        if torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0):
            return "the GPU is older than sm_80"
    return None


def automatic(device: str) -> str:
    """The first backend that can run on tensors of this device type."""
    for name in AUTOMATIC.get(device, ()):
        if unavailable(name, device) is None:
            return name
    return "torch"


def constant_in_traces(function: Function) -> Function:
    """What torch.compiler.assume_constant_result does, which imports torch._dynamo, and that triton: a second for each
    import of this package."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


@constant_in_traces
def choose(backend: str | None, device: str) -> str:
    """The backend of a leaf operation on tensors of this device type. torch.compile takes what holds as it traces.

    "reference" is answered with "torch": a leaf operation has no loop of its own, and `local_map.solve` sends the
    reference to the K-step loop before any leaf operation is reached.
    """
    name = requested(backend)
    if name is None:
        return automatic(device)
    if name == "reference":
        return "torch"
    if reason := unavailable(name, device):
        raise InputError(f"backend {name!r} cannot run here: {reason}")
    return name
