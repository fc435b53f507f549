"""The leaf operations of the local MAP, public for use in other solvers.

Each stands here as a dispatching function with its PyTorch form below it; the kernels are in csrc/ and kernels/.
D, y and results share one dtype (float32 or float64) and device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lmaps_fast import _ops, dispatch
from lmaps_fast.local_map import Weights, phi

if TYPE_CHECKING:
    from lmaps_fast.operators.jpeg_codec import JpegCodec


def _triton(module: str, name: str) -> Callable[..., Tensor]:
    """A Triton launcher, imported when it is first called: importing triton takes longer than the rest together."""

    def call(*arguments: object) -> Tensor:
        return getattr(import_module(f"lmaps_fast.kernels.{module}"), name)(*arguments)

    return call


def diagonal_map(D: Tensor, b: Tensor, s: Tensor, weights: Weights, *, backend: str | None = None) -> Tensor:
    """Local MAP where A^T A is diagonal over pixels: x = D + phi(s) (1 - lam) k2 (b - s D).

    D: [B, C, H, W]; b = A^T y: as D; s, the diagonal: [1 or B, 1, H, W]. Returns [B, C, H, W]. For a mask m of zeros
    and ones, b = m y and s = m.
    """
    run = dispatch.resolve("diagonal_map", _DIAGONAL_MAP, D.device.type, backend)
    return run(D.contiguous(), b.contiguous(), s, weights)


def diagonal_map_torch(D: Tensor, b: Tensor, s: Tensor, weights: Weights) -> Tensor:
    return D + phi(s, weights) * weights.c * (b - s * D)


def spectral_update(D: Tensor, b: Tensor, s: Tensor, weights: Weights, *, backend: str | None = None) -> Tensor:
    """Update of the local MAP in an eigenbasis of A^T A: phi(s) (1 - lam) k2 (b - s D), to be added to D.

    D, b: [..., H, W], the coefficients of D and of A^T y; s: [H, W], the eigenvalues. Returns [..., H, W].
    """
    run = dispatch.resolve("spectral_update", _SPECTRAL_UPDATE, D.device.type, backend)
    return run(D.contiguous(), b.contiguous(), s, weights)


def spectral_update_torch(D: Tensor, b: Tensor, s: Tensor, weights: Weights) -> Tensor:
    return phi(s, weights) * weights.c * (b - s * D)


def clip_map(
    D: Tensor,
    y: Tensor,
    gain: float,
    inside: float,
    outside: float,
    weights: Weights,
    *,
    backend: str | None = None,
) -> Tensor:
    """Local MAP of A(x) = clip(gain x, -1, 1) with a surrogate slope: K steps of each pixel on its own,

        x <- x - lr (lam (x - D) + (1 - lam) k2 slope (A(x) - y)), slope = inside where |gain x| <= 1, else outside.

    D, y: any shape, the same. Returns that shape.
    """
    run = dispatch.resolve("clip_map", _CLIP_MAP, D.device.type, backend)
    return run(D.contiguous(), y.contiguous(), gain, inside, outside, weights)


def clip_map_torch(D: Tensor, y: Tensor, gain: float, inside: float, outside: float, weights: Weights) -> Tensor:
    x = D
    for _ in range(weights.steps):
        clipped = (gain * x).clamp(-1, 1)
        clips = (clipped != gain * x).to(x.dtype)
        step = (clipped - y) * (inside + (outside - inside) * clips)
        x = x - weights.lr * (weights.lam * (x - D) + weights.c * step)
    return x


def quantization_map(D: Tensor, y: Tensor, intervals: int, weights: Weights, *, backend: str | None = None) -> Tensor:
    """Local MAP of a uniform quantizer with H' = identity: K steps of each pixel on its own,

        x <- x - lr (lam (x - D) + (1 - lam) k2 (Q(x) - y)), Q(x) = 2 floor(n (x + 1) / 2 + 1/2) / n - 1.

    D, y: any shape, the same; n = intervals between -1 and 1. Returns that shape. In float32 a pixel on the boundary
    between two levels may fall to the other side than in the loop.
    """
    run = dispatch.resolve("quantization_map", _QUANTIZATION_MAP, D.device.type, backend)
    return run(D.contiguous(), y.contiguous(), intervals, weights)


def quantization_map_torch(D: Tensor, y: Tensor, intervals: int, weights: Weights) -> Tensor:
    half = intervals / 2
    v_D = half * D + (half + 0.5)
    v, offset = v_D, weights.lr * (weights.lam * v_D + weights.c * (half * y + half))
    for _ in range(weights.steps):
        v = (1 - weights.lr * weights.lam) * v + offset - weights.lr * weights.c * v.floor()
    return (v - (half + 0.5)) / half


def phase_projection(X: Tensor, y: Tensor, *, backend: str | None = None) -> Tensor:
    """The complex numbers of the phases of X and the magnitudes y: y X / |X|, 0 where X is 0.

    X: complex, any shape; y: real, [*X.shape, 2], each magnitude twice (`y[..., None].expand(..., 2)`). Returns a
    complex tensor like X.
    """
    run = dispatch.resolve("phase_projection", _PHASE_PROJECTION, X.device.type, backend)
    return run(X.contiguous(), y.contiguous())


def phase_projection_torch(X: Tensor, y: Tensor) -> Tensor:
    return y[..., 0] * X.sgn()


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


def add_normal(x: Tensor, keys: Tensor, draw: int, sigma: float, *, backend: str | None = None) -> Tensor:
    """x + sigma * eps, where eps of image n is a function of (keys[n], draw, position) and standard normal.

    x: [B, ...], real; keys: [B] int64, not negative; draw: from 0. Philox4x32-10 with the counter (position, draw)
    and Box-Muller in float32, as csrc/core/normal.h lays them out; equal on all backends but for the last digits.
    """
    run = dispatch.resolve("add_normal", _ADD_NORMAL, x.device.type, backend)
    return run(x.contiguous(), keys, draw, sigma)


def add_normal_torch(x: Tensor, keys: Tensor, draw: int, sigma: float) -> Tensor:
    pixels = x[0].numel() if len(x) else 0
    words, out = 0xFFFFFFFF, torch.empty_like(x)
    counter = torch.arange(-(-pixels // 256) * 64, device=x.device)
    for image, key, target in zip(x, keys, out, strict=True):
        c = [counter & words, counter >> 32, torch.full_like(counter, draw), torch.zeros_like(counter)]
        k0, k1 = key & words, key >> 32
        for _ in range(10):
            p, q = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]  # of 64 bits, whose sign is their highest
            c = [(q >> 32 & words) ^ c[1] ^ k0, q & words, (p >> 32 & words) ^ c[3] ^ k1, p & words]
            k0, k1 = k0 + 0x9E3779B9 & words, k1 + 0xBB67AE85 & words
        numbers = []
        for u, v in (c[:2], c[2:]):
            radius = (-2 * (((u >> 8) + 1).float() * 2**-24).log()).sqrt()
            quadrant = (v >> 31) + 2 * (v >> 30 & 1)
            angle = (math.pi / 2) * (quadrant + ((v >> 6) & 0xFFFFFF).double() * 2**-24 - 0.5)
            numbers += [radius * angle.cos().float(), radius * angle.sin().float()]
        eps = torch.stack([n.view(-1, 64) for n in numbers], 1).flatten()[:pixels]
        target.copy_(image + sigma * eps.view_as(image).to(x.dtype))
    return out


@dataclass(frozen=True)
class PixelMap:
    """A local MAP that a kernel makes of each pixel or each JPEG block on its own, for `step` to take in.

    name: diagonal_map, clip_map, quantization_map or jpeg_map, with what that function takes beside D and the weights;
    or given: y is the local MAP, made elsewhere. parameters: the numbers of clip_map or quantization_map.
    """

    name: str
    y: Tensor
    s: Tensor | None = None
    parameters: tuple[float, ...] = ()
    codec: JpegCodec | None = None


@dataclass(frozen=True)
class Between:
    """The coefficients of `step`: D = skip x + out F; x_next = x0 + keep (x - x0) + noise eps; input = scale x_next."""

    skip: float
    out: float
    keep: float
    noise: float
    scale: float


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
    *,
    backend: str | None = None,
) -> None:
    """All that lies between two network calls in one kernel:

        D = skip x + out F;  x0 = local MAP of D;  x <- x0 + keep (x - x0) + noise eps;  input = scale x.

    x, x0: [B, C, H, W] in float32, contiguous, and overwritten, as is network_input. F, the network's output, and
    network_input: [B, C, H, W] in float32, bfloat16 or float16, one of them for both, contiguous or channels_last, and
    one of these for both; F may be None where the local MAP is given. eps is that of `add_normal`. There are
    the backends cuda and cpu; solvers compose the same of the other operations where neither can run.
    """
    dispatch.resolve("step", STEP, x.device.type, backend)(
        local_map, F, x, x0, network_input, keys, draw, between, weights
    )


STEP: dict[str, Callable[..., None]] = {"cuda": _ops.step, "cpu": _ops.step}


def _everywhere(name: str, triton_module: str, torch_form: Callable[..., Tensor]) -> dict[str, Callable[..., Tensor]]:
    """The four implementations of a leaf operation, by backend."""
    native = getattr(_ops, name)
    return {"cuda": native, "triton": _triton(triton_module, name), "cpu": native, "torch": torch_form}


_ADD_NORMAL = _everywhere("add_normal", "normal", add_normal_torch)
_DIAGONAL_MAP = _everywhere("diagonal_map", "pointwise", diagonal_map_torch)
_SPECTRAL_UPDATE = _everywhere("spectral_update", "pointwise", spectral_update_torch)
_CLIP_MAP = _everywhere("clip_map", "pointwise", clip_map_torch)
_QUANTIZATION_MAP = _everywhere("quantization_map", "pointwise", quantization_map_torch)
_PHASE_PROJECTION = _everywhere("phase_projection", "pointwise", phase_projection_torch)
_JPEG_MAP = _everywhere("jpeg_map", "jpeg", jpeg_map_torch)
