"""What kernels on raw addresses rely on: dtype, device, shape and layout. Each check raises InputError."""

import torch
from torch import Tensor

from lmaps_fast.errors import InputError

NETWORK_TYPES = (torch.float32, torch.bfloat16, torch.float16)  # in the order of the extension


def alike(**tensors: Tensor) -> None:
    """One dtype, one device, contiguous."""
    (first, head), *rest = tensors.items()
    if head.dtype not in (torch.float32, torch.float64):
        raise InputError(f"{first} must be float32 or float64, not {head.dtype}: convert it with .float()")
    for name, tensor in rest:
        if tensor.dtype != head.dtype:
            raise InputError(f"{name} is {tensor.dtype} but {first} is {head.dtype}: convert one of them")
        same_device(name, tensor, first, head)
    contiguous(**tensors)


def contiguous(**tensors: Tensor) -> None:
    for name, tensor in tensors.items():
        if not tensor.is_contiguous():
            raise InputError(f"{name} is not contiguous: call .contiguous() on it")


def same_device(name: str, tensor: Tensor, first: str, head: Tensor) -> None:
    if tensor.device != head.device:
        raise InputError(f"{name} is on {tensor.device} but {first} is on {head.device}: move one of them")


def same_shape(name: str, tensor: Tensor, head: Tensor, first: str = "D") -> None:
    if tensor.shape != head.shape:
        raise InputError(f"{name} has shape {list(tensor.shape)} but {first} has {list(head.shape)}: they must agree")


def rows(name: str, numbers: Tensor, width: tuple[int, ...], like: Tensor, dtype: torch.dtype = torch.float64) -> None:
    """Numbers of images, [1 or B, *width], on the device of the images `like`."""
    if numbers.shape[1:] != width or len(numbers) not in (1, len(like)):
        wanted = ", ".join(map(str, ("1 or B", *width)))
        raise InputError(
            f"{name} has shape {list(numbers.shape)} for {len(like)} images: it needs [{wanted}], a row for each image "
            f"or one for all"
        )
    if numbers.dtype != dtype:
        raise InputError(f"{name} must be {dtype}, not {numbers.dtype}: convert it")
    same_device(name, numbers, "the image", like)
    contiguous(**{name: numbers})


def image_keys(keys: Tensor, x: Tensor) -> None:
    if keys.dtype != torch.int64 or keys.shape != (len(x),) or keys.device != x.device:
        raise InputError(
            f"keys are {keys.dtype} {list(keys.shape)} on {keys.device} but x holds {len(x)} images on {x.device}: "
            f"give one int64 key for each, there"
        )


def codec(D: Tensor, matrices: list[float], subsampling: list[int]) -> None:
    if D.dim() != 4 or D.shape[1] not in (1, 3):
        raise InputError(f"D has shape {list(D.shape)}: JPEG needs [B, 1 or 3, H, W]")
    if len(matrices) != 18 or len(subsampling) != 2 or not set(subsampling) <= {1, 2}:
        raise InputError("JPEG needs 18 numbers of colour matrices and chroma subsampling by 1 or 2: give a JpegCodec")


def network_tensors(x: Tensor, network_input: Tensor, F: Tensor | None) -> None:
    for name, tensor in (("network_input", network_input), ("F", F)):
        if tensor is None:
            continue
        same_shape(name, tensor, x, "x")
        same_device(name, tensor, "x", x)
        if tensor.dtype not in NETWORK_TYPES or tensor.dtype != network_input.dtype:
            raise InputError(f"{name} is {tensor.dtype}: F and network_input must both be float32, bfloat16 or float16")
        if not (tensor.is_contiguous() or pixels_first(tensor)) or layout(tensor) != layout(network_input):
            raise InputError(
                f"{name} has strides {tensor.stride()}: F and network_input must both be contiguous or "
                f"both channels_last"
            )


def pixels_first(tensor: Tensor) -> bool:
    """Whether [B, C, *spatial] lies in memory as [B, *spatial, C], which is channels_last in two dimensions."""
    return tensor.movedim(1, -1).is_contiguous()


def layout(tensor: Tensor) -> bool:
    """True for channels_last, False for contiguous, also where it is both, as with one channel."""
    return not tensor.is_contiguous()
