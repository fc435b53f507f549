"""The leaf operations of the local MAP, public for use in other solvers.

Each stands here as a dispatching function with its PyTorch form below it; the kernels are in csrc/ and kernels/.
D, y and results share one dtype (float32 or float64) and device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from lmaps_fast import _ops, dispatch
from lmaps_fast.local_map import Weights, phi

if TYPE_CHECKING:
    from lmaps_fast.operators.jpeg_codec import JpegCodec


def _triton(name: str):  # type: ignore[no-untyped-def]
    """A Triton launcher, imported when it is first called: importing triton takes longer than the rest together."""

    def call(*arguments: Tensor | Weights) -> Tensor:
        from lmaps_fast.kernels import pointwise

        return getattr(pointwise, name)(*arguments)

    return call


def diagonal_map(D: Tensor, y: Tensor, mask: Tensor, weights: Weights, *, backend: str | None = None) -> Tensor:
    """Local MAP of A(x) = m x: x = D + phi(m^2) (1 - lam) k2 m (y - m D).

    D, y: [B, C, H, W]; mask m: [1 or B, 1, H, W]. Returns [B, C, H, W].
    """
    run = dispatch.resolve("diagonal_map", _DIAGONAL_MAP, D.device.type, backend)
    return run(D.contiguous(), y.contiguous(), mask, weights)


def diagonal_map_torch(D: Tensor, y: Tensor, mask: Tensor, weights: Weights) -> Tensor:
    return D + phi(mask * mask, weights) * weights.c * mask * (y - mask * D)


def spectral_update(D: Tensor, b: Tensor, s: Tensor, weights: Weights, *, backend: str | None = None) -> Tensor:
    """Update of the local MAP in an eigenbasis of A^T A: phi(s) (1 - lam) k2 (b - s D), to be added to D.

    D, b: [..., H, W], the coefficients of D and of A^T y; s: [H, W], the eigenvalues. Returns [..., H, W].
    """
    run = dispatch.resolve("spectral_update", _SPECTRAL_UPDATE, D.device.type, backend)
    return run(D.contiguous(), b.contiguous(), s, weights)


def spectral_update_torch(D: Tensor, b: Tensor, s: Tensor, weights: Weights) -> Tensor:
    return phi(s, weights) * weights.c * (b - s * D)


def jpeg_map(D: Tensor, y: Tensor, codec: JpegCodec, weights: Weights, *, backend: str | None = None) -> Tensor:
    """Local MAP of JPEG with the surrogate Jacobian H' = identity: K steps of each DCT coefficient on its own,

        u <- u - lr (lam (u - u_D) + (1 - lam) k2 (q round(u / q) - u_y)).

    Subsampled chroma follows the same recursion in its own DCT, and the full plane moves by its replicated update.
    D, y: [B, C, H, W] in [-1, 1], C = codec.channels. Returns [B, C, H, W]. In float32 a coefficient on a rounding
    boundary may fall to the other side than in the loop.
    """
    run = dispatch.resolve("jpeg_map", _JPEG_MAP, D.device.type, backend)
    return run(D.contiguous(), y.contiguous(), codec, weights)


def jpeg_map_torch(D: Tensor, y: Tensor, codec: JpegCodec, weights: Weights) -> Tensor:
    x = D.clone()
    h, w = codec.whole(D.shape)
    inner = (..., slice(0, h), slice(0, w))
    if h and w:
        update = []
        for u_D, u_y, q in zip(codec.analyse(D[inner]), codec.analyse(y[inner]), codec.steps(D), strict=True):
            u = u_D
            for _ in range(weights.steps):
                u = u - weights.lr * (weights.lam * (u - u_D) + weights.c * (q * (u / q).round() - u_y))
            update.append(u - u_D)
        x[inner] += codec.synthesise(update)
    # Blocks that the border cuts: what their missing pixels repeat changes with x, so their steps are taken in pixels.
    for edge in ((..., slice(w, None)), (..., slice(h, None), slice(0, w))):
        x_edge, D_edge, y_edge = x[edge], D[edge], y[edge]
        for _ in range(weights.steps if x_edge.numel() else 0):
            x_edge = x_edge - weights.lr * (weights.lam * (x_edge - D_edge) + weights.c * (codec(x_edge) - y_edge))
        x[edge] = x_edge
    return x


_DIAGONAL_MAP = {
    "cuda": _ops.diagonal_map,
    "triton": _triton("diagonal_map"),
    "cpu": _ops.diagonal_map,
    "torch": diagonal_map_torch,
}
_SPECTRAL_UPDATE = {
    "cuda": _ops.spectral_update,
    "triton": _triton("spectral_update"),
    "cpu": _ops.spectral_update,
    "torch": spectral_update_torch,
}
_JPEG_MAP = {"cpu": _ops.jpeg_map, "torch": jpeg_map_torch}
