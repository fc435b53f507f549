"""Pointwise local MAPs: where A^T A is diagonal, over pixels or over an eigenbasis, and where A is a scalar function.

The mathematics is that of csrc/core/pointwise.h. A kernel reads the weights and numbers of its image from device tables
in float64; nothing comes from the host but sizes.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from lmaps_fast.kernels.blocks import ENTRIES, PAIRS, WARPS
from lmaps_fast.kernels.launch import launch


@triton.jit
def number(value, like):
    # A number in the type of a tensor, without passing through float32
    return tl.full((), value, like.dtype)


@triton.jit
def entry(table, column, like):
    # A column of a row of a float64 table, in the type of a tensor
    return tl.load(table + column).to(like.dtype)


@triton.jit
def steps_of(weights):
    return tl.load(weights + 3).to(tl.int32)


@triton.jit
def shares(weights, like):
    # 1 - lr lam, lr lam and lr c, made in float64
    lam, c, lr = tl.load(weights), tl.load(weights + 1), tl.load(weights + 2)
    return (1 - lr * lam).to(like.dtype), (lr * lam).to(like.dtype), (lr * c).to(like.dtype)


@triton.jit
def spectral(D, b, s, weights, BITS: tl.constexpr):
    # phi(s) c (b - s D) with phi = lr * sum_{j<K} (1 - z)^j, by doubling over the bits of K; see csrc/core/weights.h.
    # Bits above the highest of K leave the sum at 0.
    lam, c, lr, steps = entry(weights, 0, D), entry(weights, 1, D), entry(weights, 2, D), steps_of(weights)
    z = lr * (lam + c * s)
    total = z * 0
    for bit in tl.static_range(BITS):
        total = total * (2 - z * total)
        if (steps >> (BITS - 1 - bit)) & 1:
            total = 1 + (1 - z) * total
    return lr * total * c * (b - s * D)


@triton.jit
def clip(D, y, parameters, weights):
    # parameters: gain, slope inside, slope outside.
    # v <- keep v + prior v_D - slope (clip(v) - y) with v = gain x; a slope holds lr c gain
    keep, prior, _data = shares(weights, D)
    gain, steps = tl.load(parameters), steps_of(weights)
    slope = tl.load(weights + 2) * tl.load(weights + 1) * gain
    inside = (slope * tl.load(parameters + 1)).to(D.dtype)
    outside = (slope * tl.load(parameters + 2)).to(D.dtype)
    v = gain.to(D.dtype) * D
    b = prior * v
    if inside == outside:
        b += inside * y
        for _ in range(steps):
            v = keep * v + (b - inside * tl.minimum(tl.maximum(v, -1.0), 1.0))
    else:
        for _ in range(steps):
            clipped = tl.minimum(tl.maximum(v, -1.0), 1.0)
            v = keep * v + (b - tl.where(clipped == v, inside, outside) * (clipped - y))
    return (1 / gain).to(D.dtype) * v


@triton.jit
def quantization(D, y, parameters, weights):
    # v <- keep v + prior v_D + data (half y + half) - data floor(v) with v = half (x + 1) + 1/2
    keep, prior, data = shares(weights, D)
    half, steps = (tl.load(parameters) / 2).to(D.dtype), steps_of(weights)
    v = half * D + (half + 0.5)
    b = prior * v + data * (half * y + half)
    for _ in range(steps):
        v = keep * v + (b - data * tl.floor(v))
    return (v - (half + 0.5)) / half


@triton.jit(do_not_specialize=["channels", "s_images", "s_channels", "rows"])
def spectral_kernel(
    out, D, b, s, weights, pixels, channels, s_images, s_channels, rows,
    DIAGONAL: tl.constexpr, BITS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # out, D, b: [images, channels, pixels]; s: [s_images, s_channels, pixels]; weights: [rows, 4]. One program per
    # (image, channel, block of pixels)
    blocks = tl.cdiv(pixels, BLOCK)
    row = tl.program_id(0) // blocks
    image, channel = row // channels, row % channels
    i = (tl.program_id(0) % blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    within = i < pixels
    at = row.to(tl.int64) * pixels + i
    s_row = image % s_images * s_channels + channel % s_channels
    D_i = tl.load(D + at, within)
    s_i = tl.load(s + s_row.to(tl.int64) * pixels + i, within)
    result = spectral(D_i, tl.load(b + at, within), s_i, weights + image % rows * 4, BITS)
    if DIAGONAL:
        result += D_i
    tl.store(out + at, result, within)


@triton.jit(do_not_specialize=["rows", "parameter_rows"])
def scalar_kernel(
    out, D, y, parameters, weights, pixels, rows, parameter_rows, CLIP: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    # out, D, y: [images, pixels]; parameters: [parameter_rows, 3 or 1]; weights: [rows, 4]. One program per
    # (image, block of pixels)
    blocks = tl.cdiv(pixels, BLOCK)
    image = tl.program_id(0) // blocks
    i = (tl.program_id(0) % blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    within = i < pixels
    at = image.to(tl.int64) * pixels + i
    D_i, y_i = tl.load(D + at, within), tl.load(y + at, within)
    if CLIP:
        result = clip(D_i, y_i, parameters + image % parameter_rows * 3, weights + image % rows * 4)
    else:
        result = quantization(D_i, y_i, parameters + image % parameter_rows, weights + image % rows * 4)
    tl.store(out + at, result, within)


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


def _spectral(D: Tensor, b: Tensor, s: Tensor, weights: Tensor, most: int, s_channels: int, diagonal: bool) -> Tensor:
    out = torch.empty_like(D)
    if D.numel():
        pixels = s.numel() // (len(s) * s_channels)
        channels = D.numel() // (len(D) * pixels)
        launch(
            spectral_kernel, len(D) * channels * triton.cdiv(pixels, ENTRIES),
            out, D, b, s, weights, pixels, channels, len(s), s_channels, len(weights),
            DIAGONAL=diagonal, BITS=most.bit_length(), BLOCK=ENTRIES, num_warps=WARPS,
        )  # fmt: skip
    return out


def diagonal_map(D: Tensor, b: Tensor, s: Tensor, weights: Tensor, most: int) -> Tensor:
    return _spectral(D, b, s, weights, most, s.shape[1], diagonal=True)


def spectral_update(D: Tensor, b: Tensor, s: Tensor, weights: Tensor, most: int) -> Tensor:
    return _spectral(D, b, s, weights, most, 1, diagonal=False)


def _scalar(D: Tensor, y: Tensor, parameters: Tensor, weights: Tensor, clips: bool) -> Tensor:
    out = torch.empty_like(D)
    if D.numel():
        pixels = D.numel() // len(D)
        launch(
            scalar_kernel, len(D) * triton.cdiv(pixels, ENTRIES),
            out, D, y, parameters, weights, pixels, len(weights), len(parameters),
            CLIP=clips, BLOCK=ENTRIES, num_warps=WARPS,
        )  # fmt: skip
    return out


def clip_map(D: Tensor, y: Tensor, parameters: Tensor, weights: Tensor, most: int) -> Tensor:
    return _scalar(D, y, parameters, weights, clips=True)


def quantization_map(D: Tensor, y: Tensor, parameters: Tensor, weights: Tensor, most: int) -> Tensor:
    return _scalar(D, y, parameters, weights, clips=False)


def phase_projection(X: Tensor, y: Tensor) -> Tensor:
    pairs = torch.view_as_real(X)
    out = torch.empty_like(pairs)
    if X.numel():
        launch(phase_kernel, triton.cdiv(X.numel(), PAIRS), out, pairs, y, X.numel(), BLOCK=PAIRS, num_warps=WARPS)
    return torch.view_as_complex(out)
