"""What a kernel on raw addresses relies on: dtype, device, shape and layout. Each check raises InputError."""

import torch
from torch import Tensor

from lmaps_fast.errors import InputError

NETWORK_TYPES = (torch.float32, torch.bfloat16, torch.float16)  # in the order of the extension


def check(**tensors: Tensor) -> None:
    """One dtype, one device, contiguous: what a kernel on raw addresses relies on."""
    (first, head), *rest = tensors.items()
    if head.dtype not in (torch.float32, torch.float64):
        raise InputError(f"{first} must be float32 or float64, not {head.dtype}: convert it with .float()")
    for name, tensor in rest:
        if tensor.dtype != head.dtype:
            raise InputError(f"{name} is {tensor.dtype} but {first} is {head.dtype}: convert one of them")
        if tensor.device != head.device:
            raise InputError(f"{name} is on {tensor.device} but {first} is on {head.device}: move one of them")
    for name, tensor in tensors.items():
        if not tensor.is_contiguous():
            raise InputError(f"{name} is not contiguous: call .contiguous() on it")


def same_shape(name: str, tensor: Tensor, D: Tensor, first: str = "D") -> None:
    if tensor.shape != D.shape:
        raise InputError(f"{name} has shape {list(tensor.shape)} but {first} has {list(D.shape)}: they must agree")


def check_keys(keys: Tensor, x: Tensor) -> None:
    if keys.dtype != torch.int64 or keys.shape != (len(x),) or keys.device != x.device:
        raise InputError(
            f"keys are {keys.dtype} {list(keys.shape)} on {keys.device} but x holds {len(x)} images on {x.device}: "
            f"give one int64 key for each, there"
        )


def check_network_tensors(x: Tensor, network_input: Tensor, F: Tensor | None) -> None:
    for name, tensor in (("network_input", network_input), ("F", F)):
        if tensor is None:
            continue
        same_shape(name, tensor, x, "x")
        if tensor.device != x.device:
            raise InputError(f"{name} is on {tensor.device} but x is on {x.device}: move one of them")
        if tensor.dtype not in NETWORK_TYPES or tensor.dtype != network_input.dtype:
            raise InputError(f"{name} is {tensor.dtype}: F and network_input must both be float32, bfloat16 or float16")
        if tensor.stride() != network_input.stride() or not (
            tensor.is_contiguous() or tensor.is_contiguous(memory_format=torch.channels_last)
        ):
            raise InputError(
                f"{name} has strides {tensor.stride()}: F and network_input must both be contiguous or "
                f"both channels_last"
            )
