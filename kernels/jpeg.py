"""Local MAP of JPEG: whole minimum coded units (MCUs) in one kernel, from pixels through all K steps back to pixels.

Colour transform, chroma subsampling, DCT and the quantizer's steps are those of csrc/core/jpeg.h. MCUs that the border
cuts take their steps in PyTorch.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from lmaps_fast import ops
from lmaps_fast.checks import check, same_shape
from lmaps_fast.errors import InputError
from lmaps_fast.kernels.blocks import JPEG_WARPS, LUMA_BLOCKS
from lmaps_fast.kernels.pointwise import number
from lmaps_fast.local_map import Weights
from lmaps_fast.ops.jpeg_codec import JpegCodec


@triton.jit
def transform(a, block):
    # a block a^t of 8x8 matrices; block: [n, 8, 8]. Sums go along the last axis, most of which one thread holds.
    half = tl.sum(block[:, :, None, :] * a[None, None, :, :], 3)
    return tl.sum(half.permute(0, 2, 1)[:, None, :, :] * a[None, :, None, :], 3)


@triton.jit
def mix(matrix, row: tl.constexpr, a, b, c):
    # A row of a 3x3 matrix times (a, b, c)
    return tl.load(matrix + 3 * row) * a + tl.load(matrix + 3 * row + 1) * b + tl.load(matrix + 3 * row + 2) * c


@triton.jit
def luma_of(x, at, plane, within, matrix, CHANNELS: tl.constexpr):
    # Levels of luma at some pixels of an image
    value = tl.load(x + at, within, 0)
    if CHANNELS == 3:
        value = mix(matrix, 0, value, tl.load(x + at + plane, within, 0), tl.load(x + at + 2 * plane, within, 0))
    return 127.5 * value - 0.5


@triton.jit
def chroma_of(x, at, plane, within, matrix, AVERAGE: tl.constexpr, SUB_H: tl.constexpr, SUB_W: tl.constexpr):
    # Levels [2 MCUs, 8, 8], Cb and Cr in turn, of pixels [n, 8, 8] in luma blocks. A sample is the mean of
    # SUB_H x SUB_W pixels, or the first of them.
    MCUS: tl.constexpr = at.shape[0] // (SUB_H * SUB_W)
    # The hint keeps the compiler from merging these loads with those of luma, which would hold registers for K steps.
    r = tl.load(x + at, within, 0, eviction_policy="evict_first")
    g = tl.load(x + at + plane, within, 0, eviction_policy="evict_first")
    b = tl.load(x + at + 2 * plane, within, 0, eviction_policy="evict_first")
    fine = tl.join(mix(matrix, 1, r, g, b), mix(matrix, 2, r, g, b))
    if AVERAGE:
        share = tl.full((SUB_H, SUB_W), 127.5 / (SUB_H * SUB_W), r.dtype)
    else:
        share = tl.where(tl.arange(0, SUB_H)[:, None] + tl.arange(0, SUB_W)[None, :] == 0, 127.5, 0.0).to(r.dtype)
    fine = fine.reshape(MCUS, SUB_H, SUB_W, 8 // SUB_H, SUB_H, 8 // SUB_W, SUB_W, 2)
    coarse = tl.sum(tl.sum(fine * share[None, None, None, None, :, None, :, None], 6), 4)
    return coarse.permute(0, 5, 1, 3, 2, 4).reshape(2 * MCUS, 8, 8)


@triton.jit
def pixels_of(samples, SUB_H: tl.constexpr, SUB_W: tl.constexpr):
    # Cb and Cr of pixels [n, 8, 8] in luma blocks; samples: [2 MCUs, 8, 8]
    MCUS: tl.constexpr = samples.shape[0] // 2
    coarse = samples.reshape(MCUS, 2, SUB_H, 8 // SUB_H, 1, SUB_W, 8 // SUB_W, 1)
    fine = tl.broadcast_to(coarse, MCUS, 2, SUB_H, 8 // SUB_H, SUB_H, SUB_W, 8 // SUB_W, SUB_W)
    return fine.permute(0, 2, 5, 3, 4, 6, 7, 1).reshape(MCUS * SUB_H * SUB_W, 8, 8, 2).split()


@triton.jit
def change(D, y, table, dct, steps, keep, prior, data):
    # What the K steps add to the levels D of blocks [n, 8, 8], in units of [-1, 1]: in the DCT of D and y, divided by
    # the quantization steps, v <- keep v + (prior v_D + data v_y) - data round(v).
    # Half to even by adding 1.5 * 2^23 or 1.5 * 2^52, past which there are no fractions: quantizer indices are smaller.
    shift = tl.full((), 12582912.0 if D.dtype == tl.float32 else 6755399441055744.0, D.dtype)
    i, j = tl.arange(0, 8)[:, None], tl.arange(0, 8)[None, :]
    forward, inverse = tl.load(dct + 8 * i + j), tl.load(dct + 8 * j + i)
    q = tl.load(table + 8 * i + j)[None, :, :]
    v_D = transform(forward, D) / q
    a, e = number(keep, v_D), number(data, v_D)
    b = number(prior, v_D) * v_D + e * (transform(forward, y) / q)
    v = v_D
    for _ in range(steps):
        v = a * v + (b - e * ((v + shift) - shift))
    return transform(inverse, (v - v_D) * q) / 127.5


@triton.jit(do_not_specialize=["steps"])
def jpeg_kernel(
    out, D, y, tables, matrices, dct, units, units_high, units_wide, height, width, steps,
    keep: tl.float64, prior: tl.float64, data: tl.float64,
    CHANNELS: tl.constexpr, SUB_H: tl.constexpr, SUB_W: tl.constexpr, AVERAGE: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    # out, D, y: [B, CHANNELS, height, width]; tables: [2, 8, 8]; matrices: [2, 3, 3]; dct: [8, 8]. A program takes
    # BLOCKS blocks of luma and the chroma of their MCUs; units: the MCUs of all images, high and wide those of one.
    block = tl.program_id(0).to(tl.int64) * BLOCKS + tl.arange(0, BLOCKS)
    unit, part = block // (SUB_H * SUB_W), block % (SUB_H * SUB_W)
    image = unit // (units_high * units_wide)
    top = (unit // units_wide % units_high * SUB_H + part // SUB_W) * 8
    left = (unit % units_wide * SUB_W + part % SUB_W) * 8
    plane = height.to(tl.int64) * width
    corner = image * CHANNELS * plane + top * width + left
    at = corner[:, None, None] + (tl.arange(0, 8)[:, None] * width + tl.arange(0, 8)[None, :])[None, :, :]
    within = (unit < units)[:, None, None]
    luma = change(
        luma_of(D, at, plane, within, matrices, CHANNELS), luma_of(y, at, plane, within, matrices, CHANNELS),
        tables, dct, steps, keep, prior, data,
    )  # fmt: skip
    if CHANNELS == 1:
        tl.store(out + at, tl.load(D + at, within) + luma, within)
    else:
        chroma = change(
            chroma_of(D, at, plane, within, matrices, AVERAGE, SUB_H, SUB_W),
            chroma_of(y, at, plane, within, matrices, AVERAGE, SUB_H, SUB_W),
            tables + 64, dct, steps, keep, prior, data,
        )  # fmt: skip
        blue, red = pixels_of(chroma, SUB_H, SUB_W)
        for channel in tl.static_range(3):
            here = at + channel * plane
            tl.store(out + here, tl.load(D + here, within) + mix(matrices + 9, channel, luma, blue, red), within)


def jpeg_map(D: Tensor, y: Tensor, codec: JpegCodec, weights: Weights) -> Tensor:
    check(D=D, y=y)
    same_shape("y", y, D)
    if D.dim() != 4 or D.shape[1] != codec.channels:
        raise InputError(f"D has shape {list(D.shape)}: this JPEG codec needs [B, {codec.channels}, H, W]")
    out, (batch, channels, height, width) = torch.empty_like(D), D.shape
    (h, w), (sub_h, sub_w) = codec.whole(D.shape), codec.subsampling
    high, wide = h // (8 * sub_h), w // (8 * sub_w)
    if units := batch * high * wide:
        share, data = weights.lr * weights.lam, weights.lr * weights.c
        with torch.cuda.device_of(D):
            jpeg_kernel[(triton.cdiv(units * sub_h * sub_w, LUMA_BLOCKS),)](
                out, D, y, *codec.constants(D), units, high, wide, height, width, weights.steps, 1 - share, share, data,
                CHANNELS=channels, SUB_H=sub_h, SUB_W=sub_w, AVERAGE=codec.average, BLOCKS=LUMA_BLOCKS,
                num_warps=JPEG_WARPS,
            )  # fmt: skip
    # In a strip without a whole MCU the PyTorch form takes its steps in pixels.
    for edge in ((..., slice(w, None)), (..., slice(h, None), slice(0, w))):
        if D[edge].numel():
            out[edge] = ops.jpeg_map_torch(D[edge], y[edge], codec, weights)
    return out
