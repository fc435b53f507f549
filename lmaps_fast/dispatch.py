"""Which implementation of a leaf operation runs, in one place.

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
from typing import Any

import torch

from lmaps_fast.errors import InputError

# "torch" is the collapsed form in PyTorch; "reference" is the K-step loop of the paper, whatever it costs.
BACKENDS = ("cuda", "triton", "cpu", "torch", "reference")
AUTOMATIC = {"cuda": ("cuda", "triton", "torch"), "cpu": ("cpu", "torch")}

_chosen: ContextVar[str | None] = ContextVar("lmaps_fast_backend", default=None)


def requested(backend: str | None = None) -> str | None:
    """The backend that was asked for, or None for the automatic choice. Raises InputError for an unknown name."""
    name = backend or _chosen.get() or os.environ.get("LMAPS_FAST_BACKEND") or None
    if name is not None and name not in BACKENDS:
        raise InputError(f"unknown backend {name!r}: choose one of {', '.join(BACKENDS)}")
    return name


@contextmanager
def use_backend(name: str | None) -> Iterator[None]:
    """Run what is inside with one backend: `with lf.use_backend("reference"): ...`; None is the automatic choice."""
    requested(name)
    token = _chosen.set(name)
    try:
        yield
    finally:
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


def available(implementations: dict[str, Callable], device: str, backend: str | None) -> bool:
    """Whether the backend that is asked for, or else the first that can run, is among these implementations."""
    name = requested(backend)
    candidates = AUTOMATIC.get(device, ("torch",)) if name is None else (name,)
    first = next((candidate for candidate in candidates if unavailable(candidate, device) is None), "torch")
    return first in implementations


def resolve(operation: str, implementations: dict[str, Callable], device: str, backend: str | None) -> Callable:
    """The implementation of `operation` that runs on this device.

    "reference" is answered with "torch" here: a leaf operation has no loop of its own, and `local_map.solve` sends
    the reference to the K-step loop before any leaf operation is reached.
    """
    name = requested(backend)
    if name is None:
        for candidate in AUTOMATIC.get(device, ("torch",)):
            if candidate in implementations and unavailable(candidate, device) is None:
                return implementations[candidate]
        reasons = "; ".join(f"{candidate}: {unavailable(candidate, device)}" for candidate in implementations)
        raise InputError(f"{operation} cannot run on {device} tensors here: {reasons}")
    if name == "reference":
        name = "torch"
    if name not in implementations:
        raise InputError(
            f"backend {name!r} has no kernel for {operation}: choose one of {', '.join(sorted(implementations))}"
        )
    if reason := unavailable(name, device):
        raise InputError(f"backend {name!r} cannot run here: {reason}")
    return implementations[name]
