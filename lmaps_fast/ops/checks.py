"""What kernels on raw addresses rely on: dtype, device, shape and layout. Each check raises InputError."""

from itertools import pairwise

import torch
from torch import Tensor

from lmaps_fast.errors import InputError

NETWORK_TYPES = (torch.float32, torch.bfloat16, torch.float16)  # in the order of the extension


def alike(first: str, head: Tensor, **others: Tensor) -> None:
    """One dtype, one device, contiguous; the first a batch."""
    dtype, device = head.dtype, head.device
    if dtype not in (torch.float32, torch.float64):
        raise InputError(f"{first} must be float32 or float64, not {dtype}: convert it with .float()")
    if not head.dim():
        raise InputError(f"{first} has no dimensions: it needs a batch, [B, ...]")
    contiguous(first, head)
    for name, tensor in others.items():
        if tensor.dtype != dtype:
            raise InputError(f"{name} is {tensor.dtype} but {first} is {dtype}: convert one of them")
        if tensor.device != device:
            raise elsewhere(name, tensor, first, head)
        contiguous(name, tensor)


def contiguous(name: str, tensor: Tensor) -> None:
    if not tensor.is_contiguous():
        raise InputError(f"{name} is not contiguous: call .contiguous() on it")


def elsewhere(name: str, tensor: Tensor, first: str, head: Tensor) -> InputError:
    return InputError(f"{name} is on {tensor.device} but {first} is on {head.device}: move one of them")


def same_shape(name: str, tensor: Tensor, head: Tensor, first: str = "D") -> None:
    if tensor.shape != head.shape:
        raise InputError(f"{name} has shape {list(tensor.shape)} but {first} has {list(head.shape)}: they must agree")


def rows(name: str, numbers: Tensor, width: tuple[int, ...], like: Tensor, dtype: torch.dtype = torch.float64) -> None:
    """Numbers of images, [1 or B, *width], on the device of the images `like`."""
    shape, images = numbers.shape, like.shape[0]
    if not shape or shape[1:] != width or (shape[0] != 1 and shape[0] != images):
        wanted = ", ".join(map(str, ("1 or B", *width)))
        raise InputError(
            f"{name} has shape {list(shape)} for {images} images: it needs [{wanted}], a row for each image or one for "
            f"all"
        )
    if numbers.dtype != dtype:
        raise InputError(f"{name} must be {dtype}, not {numbers.dtype}: convert it")
    if numbers.device != like.device:
        raise elsewhere(name, numbers, "the image", like)
    contiguous(name, numbers)


def apart(tensors: dict[str, Tensor]) -> None:
    """No two of these dense tensors share memory: kernels read one while they write another."""
    places = sorted((t.data_ptr(), t.data_ptr() + t.numel() * t.element_size()) for t in tensors.values() if t.numel())
    if any(end > begin for (_, end), (begin, _) in pairwise(places)):
        raise InputError(f"{', '.join(tensors)} share memory, but each is overwritten: give {len(tensors)} tensors")


def image_keys(keys: Tensor, x: Tensor) -> None:
    if keys.dtype != torch.int64 or keys.shape != x.shape[:1] or keys.device != x.device:
        raise InputError(
            f"keys are {keys.dtype} {list(keys.shape)} on {keys.device} but x holds {len(x)} images on {x.device}: "
            f"give one int64 key for each, there"
        )
    contiguous("keys", keys)


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
        if tensor.device != x.device:
            raise elsewhere(name, tensor, "x", x)
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
