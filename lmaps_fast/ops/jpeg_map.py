"""Local MAP of JPEG with the surrogate Jacobian H' = identity: K steps of each DCT coefficient on its own.

    u <- u - lr (lam (u - u_D) + (1 - lam) k2 (q round(u / q) - u_y))

Subsampled chroma follows the same recursion in its own DCT, and the full plane moves by its replicated update.
"""

from typing import Any

import torch
from torch import Tensor

from lmaps_fast import memory
from lmaps_fast.errors import InputError
from lmaps_fast.ops import backends, checks, jpeg_codec, native
from lmaps_fast.ops.jpeg_codec import JpegCodec
from lmaps_fast.ops.operation import Operation
from lmaps_fast.ops.quantization_map import surrogate_gradient
from lmaps_fast.weights import AnyWeights, WeightTable, table


def torch_form(
    D: Tensor,
    y: Tensor,
    tables: Tensor,
    matrices: list[float],
    subsampling: list[int],
    average: bool,
    weights: Tensor,
    most: int,
) -> Tensor:
    sub_h, sub_w = subsampling
    codec = JpegCodec(D.shape[1], tables, (sub_h, sub_w), average)
    known = WeightTable(weights, most)
    x = D.clone()
    h, w = codec.whole(D.shape)
    inner = (..., slice(0, h), slice(0, w))
    if h and w:
        update = []
        for u_D, u_y, q in zip(codec.analyse(D[inner]), codec.analyse(y[inner]), codec.steps(D), strict=True):
            lam, c, lr, K = known.columns(u_D)
            u = u_D
            for k in range(most):
                following = u - lr * (lam * (u - u_D) + c * (q * (u / q).round() - u_y))
                u = following if len(K) == 1 else torch.where(k < K, following, u)
            update.append(u - u_D)
        x[inner] += codec.synthesise(update)
    # Blocks that the border cuts: what their missing pixels repeat changes with x, so their steps are taken in pixels.
    lam, c, lr, K = known.columns(D)
    for edge in ((..., slice(w, None)), (..., slice(h, None), slice(0, w))):
        x_edge, D_edge, y_edge = x[edge], D[edge], y[edge]
        for k in range(most if x_edge.numel() else 0):
            following = x_edge - lr * (lam * (x_edge - D_edge) + c * (codec(x_edge) - y_edge))
            x_edge = following if len(K) == 1 else torch.where(k < K, following, x_edge)
        x[edge] = x_edge
    return x


def gradient(arguments: list, grad: Tensor) -> tuple[Tensor, Tensor]:
    return surrogate_gradient(arguments[0], WeightTable(*arguments[-2:]), grad)


def fits(D: Tensor, y: Tensor, tables: Tensor, matrices: list[float], subsampling: list[int], average: bool) -> None:
    checks.alike("D", D, y=y)
    checks.same_shape("y", y, D)
    checks.codec(D, matrices, subsampling)
    checks.rows("tables", tables, (2, 8, 8), D, torch.float32)


def kernel(*arguments: Any) -> Tensor:
    """arguments: those of `torch_form`."""
    D, y, tables, *fixed, weights, _ = arguments
    out = memory.empty_like(D)
    batch, channels, height, width = D.shape
    struct = backends.native().JpegArguments(
        out=out.data_ptr(),
        D=D.data_ptr(),
        y=y.data_ptr(),
        batch=batch,
        height=height,
        width=width,
        is_double=D.dtype == torch.float64,
        weights=weights.data_ptr(),
        weight_rows=len(weights),
        tables=tables.data_ptr(),
        table_rows=len(tables),
        codec=native.codec(channels, *fixed),
    )
    if D.numel():
        native.launch("jpeg_map", D, struct)
    return out


OPERATION = Operation("jpeg_map", torch_form, fits, kernel, triton="jpeg", gradient=gradient)


def jpeg_map(D: Tensor, y: Tensor, codec: JpegCodec, weights: AnyWeights, *, backend: str | None = None) -> Tensor:
    """Local MAP of JPEG with the surrogate Jacobian H' = identity: K steps of each DCT coefficient on its own.

        u <- u - lr (lam (u - u_D) + (1 - lam) k2 (q round(u / q) - u_y))

    Subsampled chroma follows the same recursion in its own DCT, and the full plane moves by its replicated update. In
    float32 a coefficient on a rounding boundary may fall to the other side than in the loop.

    Args:
        D: images to start from, [B, C, H, W] in [-1, 1], C = codec.channels, float32 or float64.
        y: measurements, as D, on the codec's lattice (`codec.nearest(y)` moves them there).
        codec: the tables, for all images or one for each, and the subsampling.
        weights: one `Weights`, or one for each image.
        backend: see `use_backend`; default: the quickest that can run.

    Returns: x, like D. Its gradient has the identity for the Jacobian of JPEG.
    Errors: InputError for tensors that do not fit together.
    """
    if D.dim() != 4 or D.shape[1] != codec.channels:
        raise InputError(f"D has shape {list(D.shape)}: this JPEG codec needs [B, {codec.channels}, H, W]")
    images, tables = (D.contiguous(), y.contiguous()), codec.tables.to(D.device).contiguous()
    known, fixed = table(weights, D.device), (list(jpeg_codec.MATRICES), list(codec.subsampling), codec.average)
    return OPERATION(backend, *images, tables, *fixed, known.values, known.most)
