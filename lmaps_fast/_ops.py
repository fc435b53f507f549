"""The native operations as torch.library operations: their checks, and the way from tensors to raw addresses.

Registered as torch.ops.lmaps_fast.*, with fakes, so that torch.compile and opcheck accept them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lmaps_fast import dispatch
from lmaps_fast.errors import InputError

if TYPE_CHECKING:
    from lmaps_fast.local_map import Weights
    from lmaps_fast.operators.jpeg_codec import JpegCodec


def _check(**tensors: Tensor) -> None:
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


def _same_shape(name: str, tensor: Tensor, D: Tensor, first: str = "D") -> None:
    if tensor.shape != D.shape:
        raise InputError(f"{name} has shape {list(tensor.shape)} but {first} has {list(D.shape)}: they must agree")


def _pointwise(
    name: str,
    D: Tensor,
    y: Tensor,
    weights: tuple = (0.0, 0.0, 0.0, 1),
    s: Tensor | None = None,
    s_repeat: int = 1,
    parameters: tuple = (0.0, 0.0, 0.0),
) -> Tensor:
    extension, out = dispatch.native(), torch.empty_like(D)
    pixels = D.numel() if s is None else s.shape[-2] * s.shape[-1]
    if D.numel() == 0:
        return out
    arguments = (
        getattr(extension.Pointwise, name),
        *(out.data_ptr(), D.data_ptr(), y.data_ptr(), 0 if s is None else s.data_ptr()),
        *(D.numel() // pixels, pixels, 1 if s is None else s.numel() // pixels, s_repeat),
        D.dtype == torch.float64,
        extension.Weights(*weights),
        parameters,
    )
    if D.is_cuda:
        with torch.cuda.device(D.device):
            extension.cuda_pointwise(*arguments, torch.cuda.current_stream().cuda_stream)
    else:
        extension.cpu_pointwise(*arguments, torch.get_num_threads())
    return out


@torch.library.custom_op("lmaps_fast::diagonal_map", mutates_args=())
def _diagonal_map(D: Tensor, b: Tensor, s: Tensor, lam: float, c: float, lr: float, steps: int) -> Tensor:
    _check(D=D, b=b, s=s)
    _same_shape("b", b, D)
    if D.dim() != 4 or s.shape not in ((1, 1, *D.shape[2:]), (D.shape[0], 1, *D.shape[2:])):
        raise InputError(f"s has shape {list(s.shape)}: D of shape {list(D.shape)} needs [1 or B, 1, H, W]")
    return _pointwise("diagonal_map", D, b, (lam, c, lr, steps), s, D.shape[1])


@torch.library.custom_op("lmaps_fast::spectral_update", mutates_args=())
def _spectral_update(D: Tensor, b: Tensor, s: Tensor, lam: float, c: float, lr: float, steps: int) -> Tensor:
    _check(D=D, b=b, s=s)
    _same_shape("b", b, D)
    if D.dim() < 2 or s.shape != D.shape[-2:]:
        raise InputError(f"s has shape {list(s.shape)}: D of shape {list(D.shape)} needs {list(D.shape[-2:])}")
    return _pointwise("spectral_update", D, b, (lam, c, lr, steps), s)


@torch.library.custom_op("lmaps_fast::clip_map", mutates_args=())
def _clip_map(D: Tensor, y: Tensor, parameters: list[float], lam: float, c: float, lr: float, steps: int) -> Tensor:
    _check(D=D, y=y)
    _same_shape("y", y, D)
    return _pointwise("clip_map", D, y, (lam, c, lr, steps), parameters=tuple(parameters))


@torch.library.custom_op("lmaps_fast::quantization_map", mutates_args=())
def _quantization_map(D: Tensor, y: Tensor, intervals: int, lam: float, c: float, lr: float, steps: int) -> Tensor:
    _check(D=D, y=y)
    _same_shape("y", y, D)
    return _pointwise("quantization_map", D, y, (lam, c, lr, steps), parameters=(float(intervals), 0.0, 0.0))


@torch.library.custom_op("lmaps_fast::phase_projection", mutates_args=())
def _phase_projection(X: Tensor, y: Tensor) -> Tensor:
    pairs = torch.view_as_real(X)
    _check(X=pairs, y=y)
    _same_shape("y", y, pairs, "the real view of X")
    return torch.view_as_complex(_pointwise("phase_projection", pairs, y))


@torch.library.custom_op("lmaps_fast::jpeg_map", mutates_args=(), device_types="cpu")
def _jpeg_map(
    D: Tensor,
    y: Tensor,
    tables: Tensor,
    matrices: Tensor,
    subsampling: list[int],
    average: bool,
    lam: float,
    c: float,
    lr: float,
    steps: int,
) -> Tensor:
    _check(D=D, y=y)
    _same_shape("y", y, D)
    if D.dim() != 4 or D.shape[1] not in (1, 3):
        raise InputError(f"D has shape {list(D.shape)}: JPEG needs [B, 1 or 3, H, W]")
    extension, out = dispatch.native(), torch.empty_like(D)
    batch, channels, height, width = D.shape
    extension.cpu_jpeg_map(
        *(tensor.data_ptr() for tensor in (out, D, y)),
        *(batch, height, width),
        D.dtype == torch.float64,
        extension.Weights(lam, c, lr, steps),
        extension.JpegTables(channels, *subsampling, average, tables.flatten(1).tolist(), *matrices.tolist()),
        torch.get_num_threads(),
    )
    return out


@torch.library.custom_op("lmaps_fast::add_normal", mutates_args=(), device_types="cpu")
def _add_normal(x: Tensor, keys: list[int], draw: int, sigma: float) -> Tensor:
    _check(x=x)
    if len(keys) != len(x):
        raise InputError(f"there are {len(keys)} keys but x holds {len(x)} images: give one key for each")
    out = torch.empty_like(x)
    arguments = (keys, x[0].numel() if len(x) else 0, draw, sigma, x.dtype == torch.float64, torch.get_num_threads())
    dispatch.native().cpu_add_normal(out.data_ptr(), x.data_ptr(), *arguments)
    return out


for _operation in (
    _diagonal_map,
    _spectral_update,
    _clip_map,
    _quantization_map,
    _phase_projection,
    _jpeg_map,
    _add_normal,
):
    _operation.register_fake(lambda D, *_: torch.empty_like(D))


def diagonal_map(D: Tensor, b: Tensor, s: Tensor, weights: Weights) -> Tensor:
    return _diagonal_map(D, b, s, weights.lam, weights.c, weights.lr, weights.steps)


def spectral_update(D: Tensor, b: Tensor, s: Tensor, weights: Weights) -> Tensor:
    return _spectral_update(D, b, s, weights.lam, weights.c, weights.lr, weights.steps)


def clip_map(D: Tensor, y: Tensor, gain: float, inside: float, outside: float, weights: Weights) -> Tensor:
    return _clip_map(D, y, [gain, inside, outside], weights.lam, weights.c, weights.lr, weights.steps)


def quantization_map(D: Tensor, y: Tensor, intervals: int, weights: Weights) -> Tensor:
    return _quantization_map(D, y, intervals, weights.lam, weights.c, weights.lr, weights.steps)


def phase_projection(X: Tensor, y: Tensor) -> Tensor:
    return _phase_projection(X, y)


def add_normal(x: Tensor, keys: list[int], draw: int, sigma: float) -> Tensor:
    return _add_normal(x, keys, draw, sigma)


def jpeg_map(D: Tensor, y: Tensor, codec: JpegCodec, weights: Weights) -> Tensor:
    return _jpeg_map(
        D,
        y,
        codec.tables,
        codec.matrices,
        list(codec.subsampling),
        codec.average,
        weights.lam,
        weights.c,
        weights.lr,
        weights.steps,
    )
