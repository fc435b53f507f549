"""The door: what users hand in is checked and converted once, here. Behind it all is float32 or float64 and contiguous,
under known modes."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lmaps_fast.errors import InputError


def as_tensor(value: Any, what: str) -> Tensor:
    """A tensor, or a numpy array as one. Raises InputError for anything else."""
    if isinstance(value, np.ndarray):
        try:
            return torch.from_numpy(np.ascontiguousarray(value))
        except TypeError:
            raise InputError(f"{what} is an array of {value.dtype}: give one of floating point") from None
    if not isinstance(value, Tensor):
        raise InputError(f"{what} is a {type(value).__name__}: give a tensor or a numpy array")
    return value


def floating(value: Any, what: str, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A tensor or array of floating point in `dtype` (of complex numbers each part), contiguous.

    Raises InputError for whole numbers, which have no known range, and for tensors on another device.
    """
    tensor = as_tensor(value, what)
    if not (tensor.is_floating_point() or tensor.is_complex()):
        raise InputError(
            f"{what} is of {str(tensor.dtype).removeprefix('torch.')}: scale it to [-1, 1], pixels of uint8 by "
            f"x / 127.5 - 1"
        )
    if tensor.device != device:
        raise InputError(
            f"{what} is on {tensor.device} but the operator is on {device}: move one of them, for example with "
            f".to({str(device)!r})"
        )
    wanted = complex_of(dtype) if tensor.is_complex() else dtype
    if tensor.is_inference() and not torch.is_inference_mode_enabled():
        tensor = tensor.clone()  # autograd takes no tensor that was made in inference mode
    return tensor.to(wanted).resolve_conj().contiguous()


def complex_of(dtype: torch.dtype) -> torch.dtype:
    """The complex type whose parts have this type."""
    return torch.complex128 if dtype == torch.float64 else torch.complex64


def device_of(device: torch.device | str) -> torch.device:
    """A device with its index. Raises InputError for one that cannot be used here."""
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError):
        raise InputError(f"device {str(device)!r} cannot be used here: give 'cpu', or leave it out") from None


@contextmanager
def known_modes(device: torch.device) -> Iterator[Any]:
    """No gradients, no inference mode, no autocast, for what this package computes. Yields a context in which callables
    of the user run: the caller's own autocast."""
    kind = device.type
    outer: Any = nullcontext
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)

        def outer() -> torch.autocast:
            return torch.autocast(kind, dtype)

    with torch.inference_mode(False), torch.no_grad(), without_autocast(kind):
        yield outer


def without_autocast(kind: str) -> Any:
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


_counting = threading.Lock()
_under_way: list[Any] = [0, "highest"]  # how many are in full precision, and the setting that the first of them found


@contextmanager
def full_precision(kind: str) -> Iterator[None]:
    """Products in their own type: no autocast, no TF32 and no bfloat16. kind: the type of the device.

    The setting is that of all threads: the last one to leave sets it back. torch.compile cannot trace such a change:
    what it makes of this package follows the caller's setting.
    """
    if torch.compiler.is_compiling():
        with without_autocast(kind):
            yield
        return
    with _counting:
        if not _under_way[0]:
            _under_way[1] = torch.get_float32_matmul_precision()
            torch.set_float32_matmul_precision("highest")
        _under_way[0] += 1
    try:
        with without_autocast(kind):
            yield
    finally:
        with _counting:
            _under_way[0] -= 1
            if not _under_way[0]:
                torch.set_float32_matmul_precision(_under_way[1])


def already_full(kind: str) -> bool:
    """Whether products are in their own type as it is, which is the usual case and costs nothing to know."""
    if torch.compiler.is_compiling() or _under_way[0] or torch.is_autocast_enabled(kind):
        return False
    return torch.get_float32_matmul_precision() == "highest"


def product(*factors: Tensor) -> Tensor:
    """factors[0] @ factors[1] @ ..., from the left, in full precision."""
    kind = factors[0].device.type
    with nullcontext() if already_full(kind) else full_precision(kind):
        out = factors[0]
        for factor in factors[1:]:
            out = out @ factor
        return out
