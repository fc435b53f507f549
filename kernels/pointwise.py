"""Pointwise local MAPs: where A^T A is diagonal, over pixels or over an eigenbasis, and where A is a scalar function.

The mathematics is that of csrc/core/pointwise.h. Numbers of the host come as float64 arguments, never through a tensor:
that would be a copy to the device, and a CUDA graph would hold the address of a tensor that a cache may drop.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from lmaps_fast.checks import check, same_shape
from lmaps_fast.errors import InputError
from lmaps_fast.kernels.blocks import ENTRIES, PAIRS, WARPS
from lmaps_fast.local_map import Weights


@triton.jit
def number(value, like):
    # An argument of the host in the type of a tensor.
    return tl.full((), value, like.dtype)


@triton.jit
def phi(s, lam, c, lr, STEPS: tl.constexpr, BITS: tl.constexpr):
    # lr * sum_{j<K} (1 - lr h)^j by doubling over the bits of K; see lmaps_fast.local_map.phi
    z = lr * (lam + c * s)
    total = z * 0 + 1
    for bit in tl.static_range(1, BITS):
        total = total * (2 - z * total)
        if (STEPS >> (BITS - 1 - bit)) & 1:
            total = 1 + (1 - z) * total
    return lr * total


@triton.jit
def spectral_kernel(
    out, D, b, s, pixels, s_rows, s_repeat, lam: tl.float64, c: tl.float64, lr: tl.float64,
    DIAGONAL: tl.constexpr, STEPS: tl.constexpr, BITS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # out, D, b: [rows, pixels]; s: [s_rows, pixels]; one program per (row, block of pixels)
    blocks = tl.cdiv(pixels, BLOCK)
    row = tl.program_id(0).to(tl.int64) // blocks
    i = tl.program_id(0).to(tl.int64) % blocks * BLOCK + tl.arange(0, BLOCK)
    within = i < pixels
    at = row * pixels + i
    D_i = tl.load(D + at, within)
    b_i = tl.load(b + at, within)
    s_i = tl.load(s + row // s_repeat % s_rows * pixels + i, within)
    gain = number(c, D_i) * phi(s_i, number(lam, D_i), number(c, D_i), number(lr, D_i), STEPS, BITS)
    result = gain * (b_i - s_i * D_i)
    if DIAGONAL:
        result += D_i
    tl.store(out + at, result, within)


@triton.jit(do_not_specialize=["steps"])
def clip_kernel(
    out, D, y, entries, steps, gain: tl.float64, keep: tl.float64, prior: tl.float64, inside: tl.float64,
    outside: tl.float64, ONE_SLOPE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # v <- keep v + prior v_D - slope (clip(v) - y) with v = gain x; a slope holds lr c gain
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    within = i < entries
    y_i = tl.load(y + i, within)
    v = number(gain, y_i) * tl.load(D + i, within)
    a, low, high = number(keep, v), number(inside, v), number(outside, v)
    b = number(prior, v) * v
    if ONE_SLOPE:
        b += low * y_i
        for _ in range(steps):
            v = a * v + (b - low * tl.minimum(tl.maximum(v, -1.0), 1.0))
    else:
        for _ in range(steps):
            clipped = tl.minimum(tl.maximum(v, -1.0), 1.0)
            v = a * v + (b - tl.where(clipped == v, low, high) * (clipped - y_i))
    tl.store(out + i, v / number(gain, v), within)


@triton.jit(do_not_specialize=["steps"])
def quantization_kernel(
    out, D, y, entries, steps, half: tl.float64, keep: tl.float64, prior: tl.float64, data: tl.float64,
    BLOCK: tl.constexpr,
):  # fmt: skip
    # v <- keep v + prior v_D + data (half y + half) - data floor(v) with v = half (x + 1) + 1/2
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    within = i < entries
    y_i = tl.load(y + i, within)
    n = number(half, y_i)
    v = n * tl.load(D + i, within) + (n + 0.5)
    a, e = number(keep, v), number(data, v)
    b = number(prior, v) * v + e * (n * y_i + n)
    for _ in range(steps):
        v = a * v + (b - e * tl.floor(v))
    tl.store(out + i, (v - (n + 0.5)) / n, within)


@triton.jit
def phase_kernel(out, X, y, entries, BLOCK: tl.constexpr):
    # out, X, y: [entries, 2], real and imaginary part side by side, so that a thread holds both
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    at = 2 * i[:, None] + tl.arange(0, 2)[None, :]
    within = i[:, None] < entries
    X_i = tl.load(X + at, within, 0)
    square = tl.sum(X_i * X_i, 1)
    # Where X is 0 the result is; a maximum would drop NaN.
    square = tl.where(square < 1e-37, tl.full((), 1e-37, square.dtype), square)
    tl.store(out + at, tl.load(y + at, within) / tl.sqrt(square)[:, None] * X_i, within)


def _spectral(D: Tensor, b: Tensor, s: Tensor, s_repeat: int, weights: Weights, diagonal: bool) -> Tensor:
    out, pixels = torch.empty_like(D), s.shape[-2] * s.shape[-1]
    if D.numel():
        with torch.cuda.device_of(D):
            spectral_kernel[(D.numel() // pixels * triton.cdiv(pixels, ENTRIES),)](
                out, D, b, s, pixels, s.numel() // pixels, s_repeat, weights.lam, weights.c, weights.lr,
                DIAGONAL=diagonal, STEPS=weights.steps, BITS=weights.steps.bit_length(), BLOCK=ENTRIES, num_warps=WARPS,
            )  # fmt: skip
    return out


def diagonal_map(D: Tensor, b: Tensor, s: Tensor, weights: Weights) -> Tensor:
    check(D=D, b=b, s=s)
    same_shape("b", b, D)
    if D.dim() != 4 or s.shape not in ((1, 1, *D.shape[2:]), (D.shape[0], 1, *D.shape[2:])):
        raise InputError(f"s has shape {list(s.shape)}: D of shape {list(D.shape)} needs [1 or B, 1, H, W]")
    return _spectral(D, b, s, D.shape[1], weights, diagonal=True)


def spectral_update(D: Tensor, b: Tensor, s: Tensor, weights: Weights) -> Tensor:
    check(D=D, b=b, s=s)
    same_shape("b", b, D)
    if D.dim() < 2 or s.shape != D.shape[-2:]:
        raise InputError(f"s has shape {list(s.shape)}: D of shape {list(D.shape)} needs {list(D.shape[-2:])}")
    return _spectral(D, b, s, 1, weights, diagonal=False)


def clip_map(D: Tensor, y: Tensor, gain: float, inside: float, outside: float, weights: Weights) -> Tensor:
    check(D=D, y=y)
    same_shape("y", y, D)
    out, share, slope = torch.empty_like(D), weights.lr * weights.lam, weights.lr * weights.c * gain
    if D.numel():
        with torch.cuda.device_of(D):
            clip_kernel[(triton.cdiv(D.numel(), ENTRIES),)](
                out, D, y, D.numel(), weights.steps, gain, 1 - share, share, slope * inside, slope * outside,
                ONE_SLOPE=inside == outside, BLOCK=ENTRIES, num_warps=WARPS,
            )  # fmt: skip
    return out


def quantization_map(D: Tensor, y: Tensor, intervals: int, weights: Weights) -> Tensor:
    check(D=D, y=y)
    same_shape("y", y, D)
    out, share, data = torch.empty_like(D), weights.lr * weights.lam, weights.lr * weights.c
    if D.numel():
        with torch.cuda.device_of(D):
            quantization_kernel[(triton.cdiv(D.numel(), ENTRIES),)](
                out, D, y, D.numel(), weights.steps, intervals / 2, 1 - share, share, data,
                BLOCK=ENTRIES, num_warps=WARPS,
            )  # fmt: skip
    return out


def phase_projection(X: Tensor, y: Tensor) -> Tensor:
    pairs = torch.view_as_real(X)
    check(X=pairs, y=y)
    same_shape("y", y, pairs, "the real view of X")
    out = torch.empty_like(pairs)
    if X.numel():
        with torch.cuda.device_of(X):
            phase_kernel[(triton.cdiv(X.numel(), PAIRS),)](out, pairs, y, X.numel(), BLOCK=PAIRS, num_warps=WARPS)
    return torch.view_as_complex(out)
