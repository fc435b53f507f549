"""The native operations as torch.library operations: their checks, and the way from tensors to raw addresses.

Registered as torch.ops.lmaps_fast.*, with fakes, so that torch.compile and opcheck accept them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lmaps_fast import dispatch
from lmaps_fast.checks import NETWORK_TYPES, check, check_keys, check_network_tensors, same_shape
from lmaps_fast.errors import InputError

if TYPE_CHECKING:
    from lmaps_fast.local_map import Weights
    from lmaps_fast.operators.jpeg_codec import JpegCodec
    from lmaps_fast.ops import Between, PixelMap


def _jpeg_tables(
    channels: int, subsampling: list[int], average: bool, tables: Tensor, matrices: Tensor | None
) -> object:
    assert matrices is not None
    return dispatch.native().JpegTables(channels, *subsampling, average, tables.flatten(1).tolist(), *matrices.tolist())


def _launch(kernel: str, like: Tensor, *arguments: object) -> None:
    """Call cpu_<kernel> or cuda_<kernel>, by the device of a tensor, on torch's threads or its current stream."""
    extension = dispatch.native()
    if like.is_cuda:
        with torch.cuda.device(like.device):
            getattr(extension, f"cuda_{kernel}")(*arguments, torch.cuda.current_stream().cuda_stream)
    else:
        getattr(extension, f"cpu_{kernel}")(*arguments, torch.get_num_threads())


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
    _launch(
        "pointwise",
        D,
        getattr(extension.Pointwise, name),
        *(out.data_ptr(), D.data_ptr(), y.data_ptr(), 0 if s is None else s.data_ptr()),
        *(D.numel() // pixels, pixels, 1 if s is None else s.numel() // pixels, s_repeat),
        D.dtype == torch.float64,
        extension.Weights(*weights),
        parameters,
    )
    return out


@torch.library.custom_op("lmaps_fast::diagonal_map", mutates_args=())
def _diagonal_map(D: Tensor, b: Tensor, s: Tensor, lam: float, c: float, lr: float, steps: int) -> Tensor:
    check(D=D, b=b, s=s)
    same_shape("b", b, D)
    if D.dim() != 4 or s.shape not in ((1, 1, *D.shape[2:]), (D.shape[0], 1, *D.shape[2:])):
        raise InputError(f"s has shape {list(s.shape)}: D of shape {list(D.shape)} needs [1 or B, 1, H, W]")
    return _pointwise("diagonal_map", D, b, (lam, c, lr, steps), s, D.shape[1])


@torch.library.custom_op("lmaps_fast::spectral_update", mutates_args=())
def _spectral_update(D: Tensor, b: Tensor, s: Tensor, lam: float, c: float, lr: float, steps: int) -> Tensor:
    check(D=D, b=b, s=s)
    same_shape("b", b, D)
    if D.dim() < 2 or s.shape != D.shape[-2:]:
        raise InputError(f"s has shape {list(s.shape)}: D of shape {list(D.shape)} needs {list(D.shape[-2:])}")
    return _pointwise("spectral_update", D, b, (lam, c, lr, steps), s)


@torch.library.custom_op("lmaps_fast::clip_map", mutates_args=())
def _clip_map(D: Tensor, y: Tensor, parameters: list[float], lam: float, c: float, lr: float, steps: int) -> Tensor:
    check(D=D, y=y)
    same_shape("y", y, D)
    return _pointwise("clip_map", D, y, (lam, c, lr, steps), parameters=tuple(parameters))


@torch.library.custom_op("lmaps_fast::quantization_map", mutates_args=())
def _quantization_map(D: Tensor, y: Tensor, intervals: int, lam: float, c: float, lr: float, steps: int) -> Tensor:
    check(D=D, y=y)
    same_shape("y", y, D)
    return _pointwise("quantization_map", D, y, (lam, c, lr, steps), parameters=(float(intervals), 0.0, 0.0))


@torch.library.custom_op("lmaps_fast::phase_projection", mutates_args=())
def _phase_projection(X: Tensor, y: Tensor) -> Tensor:
    pairs = torch.view_as_real(X)
    check(X=pairs, y=y)
    same_shape("y", y, pairs, "the real view of X")
    return torch.view_as_complex(_pointwise("phase_projection", pairs, y))


@torch.library.custom_op("lmaps_fast::jpeg_map", mutates_args=())
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
    check(D=D, y=y)
    same_shape("y", y, D)
    if D.dim() != 4 or D.shape[1] not in (1, 3):
        raise InputError(f"D has shape {list(D.shape)}: JPEG needs [B, 1 or 3, H, W]")
    extension, out = dispatch.native(), torch.empty_like(D)
    batch, channels, height, width = D.shape
    _launch(
        "jpeg_map",
        D,
        *(tensor.data_ptr() for tensor in (out, D, y)),
        *(batch, height, width),
        D.dtype == torch.float64,
        extension.Weights(lam, c, lr, steps),
        _jpeg_tables(channels, subsampling, average, tables, matrices),
    )
    return out


@torch.library.custom_op("lmaps_fast::add_normal", mutates_args=())
def _add_normal(x: Tensor, keys: Tensor, draw: int, sigma: float) -> Tensor:
    check(x=x)
    check_keys(keys, x)
    out = torch.empty_like(x)
    if x.numel():
        addresses = (out.data_ptr(), x.data_ptr(), keys.data_ptr())
        _launch("add_normal", x, *addresses, len(x), x[0].numel(), draw, sigma, x.dtype == torch.float64)
    return out


@torch.library.custom_op("lmaps_fast::step", mutates_args=("x", "x0", "network_input"))
def _step(
    name: str,
    x: Tensor,
    x0: Tensor,
    network_input: Tensor,
    F: Tensor | None,
    y: Tensor,
    s: Tensor | None,
    keys: Tensor,
    draw: int,
    between: list[float],
    weights: list[float],
    steps: int,
    parameters: list[float],
    tables: Tensor | None,
    matrices: Tensor | None,
    subsampling: list[int],
    average: bool,
) -> None:
    check(x=x, x0=x0, y=y, **({} if s is None else {"s": s}))
    check_keys(keys, x)
    check_network_tensors(x, network_input, F)
    for what, tensor in (("x0", x0), ("y", y)):
        same_shape(what, tensor, x, "x")
    batch, channels, height, width = x.shape
    if x.dtype != torch.float32:
        raise InputError(f"x is {x.dtype}: the fused step is for float32; convert it with .float()")
    if s is not None and s.shape not in ((1, 1, height, width), (batch, 1, height, width)):
        raise InputError(f"s has shape {list(s.shape)}: x of shape {list(x.shape)} needs [1 or B, 1, H, W]")
    if x.numel() == 0:
        return
    extension = dispatch.native()
    address = lambda tensor: 0 if tensor is None else tensor.data_ptr()  # noqa: E731
    _launch(
        "step",
        x,
        extension.Between(
            *(address(tensor) for tensor in (x0, x, network_input, F, x, y, s, keys)),
            *(batch, channels, height, width, 1 if s is None else len(s)),
            NETWORK_TYPES.index(network_input.dtype),
            not network_input.is_contiguous(),
            draw,
            between,
        ),
        getattr(extension.Pointwise, name),
        extension.Weights(*weights, steps),
        (*parameters, 0.0, 0.0, 0.0)[:3],
        None if tables is None else _jpeg_tables(channels, subsampling, average, tables, matrices),
    )


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


def add_normal(x: Tensor, keys: Tensor, draw: int, sigma: float) -> Tensor:
    return _add_normal(x, keys, draw, sigma)


def step(
    local_map: PixelMap,
    F: Tensor | None,
    x: Tensor,
    x0: Tensor,
    network_input: Tensor,
    keys: Tensor,
    draw: int,
    between: Between,
    weights: Weights,
) -> None:
    codec = local_map.codec
    _step(
        local_map.name,
        *(x, x0, network_input, F, local_map.y, local_map.s, keys, draw),
        [between.skip, between.out, between.keep, between.noise, between.scale],
        [weights.lam, weights.c, weights.lr],
        weights.steps,
        list(local_map.parameters),
        *((None, None, [], False) if codec is None else (codec.tables, codec.matrices)),
        *(() if codec is None else (list(codec.subsampling), codec.average)),
    )


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
