"""Local MAP of JPEG: each minimum coded unit (MCU) in one program, from pixels through all K steps back to pixels.

Colour transform, chroma subsampling, DCT and the quantizer's steps are those of csrc/core/jpeg.h.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from lmaps_fast.kernels.blocks import JPEG_WARPS, LUMA_BLOCKS
from lmaps_fast.kernels.launch import launch
from lmaps_fast.kernels.pointwise import entry, number, shares, steps_of

# cos(i pi / 16) / 2, the entries of the orthonormal DCT-II of length 8
COSINES = tl.constexpr(
    (
        0.5,
        0.4903926402016152,
        0.46193976625564337,
        0.4157348061512726,
        0.3535533905932738,
        0.2777851165098011,
        0.1913417161825449,
        0.09754516100806412,
    )
)


@triton.jit
def dct(k, j, like):
    # Entries (k, j) of the DCT matrix, made here so that no launch uploads it
    angle = (2 * j + 1) * k % 32  # in units of pi / 16
    angle = tl.where(k == 0, 4, tl.minimum(angle, 32 - angle))
    folded = tl.minimum(angle, 16 - angle)
    value = tl.zeros(folded.shape, like.dtype)
    for i in tl.static_range(8):
        value = tl.where(folded == i, number(COSINES[i], like), value)
    return tl.where(angle > 8, -value, value)


@triton.jit
def transform(a, block):
    # a block a^t of 8x8 matrices; block: [n, 8, 8]. Sums go along the last axis, most of which one thread holds.
    half = tl.sum(block[:, :, None, :] * a[None, None, :, :], 3)
    return tl.sum(half.permute(0, 2, 1)[:, None, :, :] * a[None, :, None, :], 3)


@triton.jit
def mix(MATRICES: tl.constexpr, row: tl.constexpr, a, b, c):
    # A row of two 3x3 matrices, one below the other, times (a, b, c)
    return (
        number(MATRICES[3 * row], a) * a + number(MATRICES[3 * row + 1], a) * b + number(MATRICES[3 * row + 2], a) * c
    )


@triton.jit
def luma_of(x, at, plane, within, MATRICES: tl.constexpr, CHANNELS: tl.constexpr):
    # Levels of luma at some pixels of an image
    value = tl.load(x + at, within, 0)
    if CHANNELS == 3:
        value = mix(MATRICES, 0, value, tl.load(x + at + plane, within, 0), tl.load(x + at + 2 * plane, within, 0))
    return 127.5 * value - 0.5


@triton.jit
def chroma_of(
    x, at, plane, within, MATRICES: tl.constexpr, AVERAGE: tl.constexpr, SUB_H: tl.constexpr, SUB_W: tl.constexpr
):  # fmt: skip
    # Levels [2 MCUs, 8, 8], Cb and Cr in turn, of pixels [n, 8, 8] in luma blocks. A sample is the mean of
    # SUB_H x SUB_W pixels, or the first of them.
    MCUS: tl.constexpr = at.shape[0] // (SUB_H * SUB_W)
    # The hint keeps the compiler from merging these loads with those of luma, which would hold registers for K steps.
    r = tl.load(x + at, within, 0, eviction_policy="evict_first")
    g = tl.load(x + at + plane, within, 0, eviction_policy="evict_first")
    b = tl.load(x + at + 2 * plane, within, 0, eviction_policy="evict_first")
    fine = tl.join(mix(MATRICES, 1, r, g, b), mix(MATRICES, 2, r, g, b))
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
def round_even(v):
    # By adding 1.5 * 2^23 or 1.5 * 2^52, past which there are no fractions: quantizer indices are smaller.
    shift = number(12582912.0 if v.dtype == tl.float32 else 6755399441055744.0, v)
    return (v + shift) - shift


@triton.jit
def quantizer(table, like):
    return tl.load(table + 8 * tl.arange(0, 8)[:, None] + tl.arange(0, 8)[None, :]).to(like.dtype)[None, :, :]


@triton.jit
def change(D, y, table, forward, weights):
    # What the K steps add to the levels D of blocks [n, 8, 8], in units of [-1, 1]: in the DCT of D and y, divided by
    # the quantization steps, v <- keep v + (prior v_D + data v_y) - data round(v).
    keep, prior, data = shares(weights, D)
    q = quantizer(table, D)
    v_D = transform(forward, D) / q
    b = prior * v_D + data * (transform(forward, y) / q)
    v = v_D
    for _ in range(steps_of(weights)):
        v = keep * v + (b - data * round_even(v))
    # Made here, so that where no MCU is cut no register holds it for K steps.
    inverse = dct(tl.arange(0, 8)[None, :], tl.arange(0, 8)[:, None], D)
    return transform(inverse, (v - v_D) * q) / 127.5


@triton.jit
def quantized(levels, table, forward, inverse):
    # What levels of blocks [n, 8, 8] become in the codec, in units of [-1, 1].
    q = quantizer(table, levels)
    return transform(inverse, round_even(transform(forward, levels) / q) * q) / 127.5


@triton.jit
def places(
    program, height, width, BORDER: tl.constexpr, SUB_H: tl.constexpr, SUB_W: tl.constexpr, BLOCKS: tl.constexpr
):  # fmt: skip
    # Of the BLOCKS blocks of luma of a program: their rows [n, 8, 1] and columns [n, 1, 8] in the image, which are
    # there [n, 1, 1], and whether the border cuts their MCUs. Such MCUs take longest and so have the first programs:
    # those of the last column, then those of the last row.
    MCUS: tl.constexpr = BLOCKS // (SUB_H * SUB_W)
    high, wide = height // (8 * SUB_H), width // (8 * SUB_W)
    block = tl.arange(0, BLOCKS)
    if BORDER:
        beside = tl.where(width % (8 * SUB_W) > 0, high, 0)
        below = tl.where(height % (8 * SUB_H) > 0, tl.cdiv(width, 8 * SUB_W), 0)
        programs = tl.cdiv(beside + below, MCUS)
        cut = program < programs
        mcu = tl.where(cut, program, program - programs) * MCUS + block // (SUB_H * SUB_W)
        row, column = mcu // tl.maximum(wide, 1), mcu % tl.maximum(wide, 1)
        row = tl.where(cut, tl.where(mcu < beside, mcu, high), row)
        column = tl.where(cut, tl.where(mcu < beside, wide, mcu - beside), column)
        # Right of the last whole MCU and below it at once: that one belongs to the last row.
        there = mcu < tl.where(cut, beside + below, high * wide)
    else:
        cut = False
        mcu = program * MCUS + block // (SUB_H * SUB_W)
        row, column = mcu // wide, mcu % wide
        there = mcu < high * wide
    part = block % (SUB_H * SUB_W)
    top, left = (row * SUB_H + part // SUB_W) * 8, (column * SUB_W + part % SUB_W) * 8
    rows = top[:, None, None] + tl.arange(0, 8)[None, :, None]
    columns = left[:, None, None] + tl.arange(0, 8)[None, None, :]
    return rows, columns, there[:, None, None], cut


@triton.jit
def offsets(row, column, height, width, WIDE: tl.constexpr):
    # Of pixels in their channel: where they are, where the pixel is that stands for them, which is another beyond the
    # border, and the size of a channel. WIDE: an image has more numbers than fit in 32 bits.
    plane = tl.full((), height, tl.int64 if WIDE else tl.int32) * width
    at = row.to(plane.dtype) * width + column
    repeated = tl.minimum(row, height - 1).to(plane.dtype) * width + tl.minimum(column, width - 1)
    return at, repeated, plane


@triton.jit
def step_of_pixel(out, y, here, within, D, decoded, lam, c, lr):
    x, offset = tl.load(out + here, within), number(0.5 / 127.5, D)
    x -= lr * (lam * (x - D) + c * (decoded + offset - tl.load(y + here, within)))
    tl.store(out + here, x, within)


@triton.jit
def map_mcus(
    out, D, y, at, repeated, plane, there, exists, cut, tables, weights, MATRICES: tl.constexpr, CHANNELS: tl.constexpr,
    SUB_H: tl.constexpr, SUB_W: tl.constexpr, AVERAGE: tl.constexpr,
):  # fmt: skip
    # The local MAP of the pixels [n, 8, 8] at `at`, of those that exist. out may be D. Barriers stand wherever a thread
    # writes what others have read or will read.
    i, j = tl.arange(0, 8)[:, None], tl.arange(0, 8)[None, :]
    like = tl.full((), 0, out.dtype.element_ty)
    forward, inverse = dct(i, j, like), dct(j, i, like)
    if cut:
        # What the missing pixels of a cut MCU repeat changes with x, which couples the coefficients: K steps of pixels,
        # which stand in `out` meanwhile.
        D_0 = tl.load(D + at, exists)
        D_1, D_2 = D_0, D_0
        if CHANNELS == 3:
            D_1, D_2 = tl.load(D + at + plane, exists), tl.load(D + at + 2 * plane, exists)
            tl.store(out + at + plane, D_1, exists)
            tl.store(out + at + 2 * plane, D_2, exists)
        tl.store(out + at, D_0, exists)
        lam, c, lr = entry(weights, 0, D_0), entry(weights, 1, D_0), entry(weights, 2, D_0)
        for _ in range(steps_of(weights)):
            tl.debug_barrier()
            luma = luma_of(out, repeated, plane, there, MATRICES, CHANNELS)
            if CHANNELS == 1:
                luma = quantized(luma, tables, forward, inverse)
                tl.debug_barrier()
                step_of_pixel(out, y, at, exists, D_0, luma, lam, c, lr)
            else:
                chroma = chroma_of(out, repeated, plane, there, MATRICES, AVERAGE, SUB_H, SUB_W)
                luma = quantized(luma, tables, forward, inverse)
                blue, red = pixels_of(quantized(chroma, tables + 64, forward, inverse), SUB_H, SUB_W)
                tl.debug_barrier()
                step_of_pixel(out, y, at, exists, D_0, mix(MATRICES, 3, luma, blue, red), lam, c, lr)
                step_of_pixel(out, y, at + plane, exists, D_1, mix(MATRICES, 4, luma, blue, red), lam, c, lr)
                step_of_pixel(out, y, at + 2 * plane, exists, D_2, mix(MATRICES, 5, luma, blue, red), lam, c, lr)
    else:
        luma = change(
            luma_of(D, at, plane, exists, MATRICES, CHANNELS), luma_of(y, at, plane, exists, MATRICES, CHANNELS),
            tables, forward, weights,
        )  # fmt: skip
        if CHANNELS == 1:
            tl.store(out + at, tl.load(D + at, exists) + luma, exists)
        else:
            chroma = change(
                chroma_of(D, at, plane, exists, MATRICES, AVERAGE, SUB_H, SUB_W),
                chroma_of(y, at, plane, exists, MATRICES, AVERAGE, SUB_H, SUB_W),
                tables + 64, forward, weights,
            )  # fmt: skip
            blue, red = pixels_of(chroma, SUB_H, SUB_W)
            tl.debug_barrier()
            for channel in tl.static_range(3):
                here = at + channel * plane
                tl.store(out + here, tl.load(D + here, exists) + mix(MATRICES, 3 + channel, luma, blue, red), exists)


@triton.jit(do_not_specialize=["programs", "height", "width", "rows", "table_rows"])
def jpeg_kernel(
    out, D, y, tables, weights, programs, height, width, rows, table_rows, BORDER: tl.constexpr, MATRICES: tl.constexpr,
    CHANNELS: tl.constexpr, SUB_H: tl.constexpr, SUB_W: tl.constexpr, AVERAGE: tl.constexpr, BLOCKS: tl.constexpr,
    WIDE: tl.constexpr,
):  # fmt: skip
    # out, D, y: [images, CHANNELS, height, width]; tables: [table_rows, 2, 8, 8]; weights: [rows, 4]. A program takes
    # BLOCKS blocks of luma of an image and the chroma of their MCUs; `programs` of them make an image.
    image = tl.program_id(0) // programs
    row, column, there, cut = places(tl.program_id(0) % programs, height, width, BORDER, SUB_H, SUB_W, BLOCKS)
    at, repeated, plane = offsets(row, column, height, width, WIDE)
    first = image.to(tl.int64) * CHANNELS * plane
    exists = (there & (row < height) & (column < width)) if BORDER else there
    map_mcus(
        out + first, D + first, y + first, at, repeated, plane, there, exists, cut,
        tables + image % table_rows * 128, weights + image % rows * 4,
        MATRICES, CHANNELS, SUB_H, SUB_W, AVERAGE,
    )  # fmt: skip


def wide(x: Tensor) -> bool:
    """Whether 32 bits are too few for the places in an image of x [B, ...] and in the last program's rest."""
    return x.numel() // len(x) >= 2**31 - 2**16


def grid(height: int, width: int, subsampling: Sequence[int]) -> tuple[int, bool]:
    """Programs of an image, and whether there are MCUs that the border cuts."""
    (sub_h, sub_w), blocks = subsampling, LUMA_BLOCKS
    high, wide, mcus = height // (8 * sub_h), width // (8 * sub_w), blocks // (sub_h * sub_w)
    cut = -(-height // (8 * sub_h)) * -(-width // (8 * sub_w)) - high * wide
    return triton.cdiv(cut, mcus) + triton.cdiv(high * wide, mcus), cut > 0


def jpeg_map(
    D: Tensor,
    y: Tensor,
    tables: Tensor,
    matrices: Sequence[float],
    subsampling: Sequence[int],
    average: bool,
    weights: Tensor,
    most: int,
) -> Tensor:
    out, (batch, channels, height, width) = torch.empty_like(D), D.shape
    if D.numel():
        programs, border = grid(height, width, subsampling)
        launch(
            jpeg_kernel, batch * programs,
            out, D, y, tables, weights, programs, height, width, len(weights), len(tables),
            BORDER=border, MATRICES=tuple(matrices), CHANNELS=channels, SUB_H=subsampling[0], SUB_W=subsampling[1],
            AVERAGE=average, BLOCKS=LUMA_BLOCKS, WIDE=wide(D), num_warps=JPEG_WARPS, num_stages=1,
        )  # fmt: skip
    return out
