"""All that lies between two network calls in one kernel: csrc/core/step.h around the local MAPs of this folder.

D = skip x + out F;  x0 = local MAP of D;  x <- x0 + keep (x - x0) + noise eps;  network_input = scale x
"""

from collections.abc import Sequence

import triton
import triton.language as tl
from torch import Tensor

from lmaps_fast.kernels.blocks import COUNTERS, JPEG_WARPS, LUMA_BLOCKS, WARPS
from lmaps_fast.kernels.jpeg import grid, map_mcus, offsets, places, wide
from lmaps_fast.kernels.launch import launch
from lmaps_fast.kernels.normal import normal_at, normals
from lmaps_fast.kernels.pointwise import clip, quantization, spectral

COLUMNS = tl.constexpr(10)  # of a row of levels: lam, c, lr, K, skip, out, keep, noise, scale, draw


@triton.jit
def level(row, column):
    return tl.load(row + column).to(tl.float32)


@triton.jit
def network_place(i, channels, pixels, CHANNELS_LAST: tl.constexpr):
    # Where number i of an image lies in the network's tensors
    if CHANNELS_LAST:
        channel = i // pixels
        i = (i - channel * pixels) * channels + channel
    return i


@triton.jit
def denoised(x, F, at, place, within, row):
    D = level(row, 4) * tl.load(x + at, within)
    if F is not None:
        D += level(row, 5) * tl.load(F + place, within).to(tl.float32)
    return D


@triton.jit
def write(x, x0, network_input, at, place, within, x0_i, eps, row):
    x_i = tl.load(x + at, within)
    x_i = x0_i + level(row, 6) * (x_i - x0_i) + level(row, 7) * eps
    tl.store(x0 + at, x0_i, within)
    tl.store(x + at, x_i, within)
    tl.store(network_input + place, (level(row, 8) * x_i).to(network_input.dtype.element_ty), within)


@triton.jit(do_not_specialize=["channels", "level_rows", "rows"])
def pixel_step_kernel(
    x, x0, network_input, F, y, keys, levels, numbers, pixels, channels, level_rows, rows, KIND: tl.constexpr,
    ONE_S: tl.constexpr, CHANNELS_LAST: tl.constexpr, BITS: tl.constexpr, BLOCK: tl.constexpr,
    WIDE: tl.constexpr,
):  # fmt: skip
    # x, x0, y, F, network_input: [images, channels, pixels]; levels: [level_rows, 10]; numbers: s [rows, 1 or channels,
    # pixels] or parameters [rows, 3 or 1]. One program per (image, block of counters), as in normal.py.
    size = tl.full((), channels, tl.int64 if WIDE else tl.int32) * pixels
    blocks = tl.cdiv(size, 4 * BLOCK).to(tl.int32)
    image = tl.program_id(0) // blocks
    counter = (tl.program_id(0) % blocks).to(size.dtype) * BLOCK + tl.arange(0, BLOCK)
    row = levels + image % level_rows * COLUMNS
    # [BLOCK, 2, 2]: at (j, a, b) number a + 2 b of a counter
    number_of = tl.arange(0, 2)[None, :, None] + 2 * tl.arange(0, 2)[None, None, :]
    i = (counter // 64 * 256 + counter % 64)[:, None, None] + 64 * number_of
    within = i < size
    first = image.to(tl.int64) * size
    x, x0, network_input, y = x + first, x0 + first, network_input + first, y + first
    if F is not None:
        F += first
    place = network_place(i, channels, pixels, CHANNELS_LAST)
    D, y_i = denoised(x, F, i, place, within, row), tl.load(y + i, within)
    if KIND == "given":
        x0_i = y_i
    elif KIND == "diagonal_map":
        if ONE_S:
            s_i = tl.load(numbers + (image % rows).to(tl.int64) * pixels + i % pixels, within)
        else:
            s_i = tl.load(numbers + (image % rows).to(tl.int64) * size + i, within)
        x0_i = D + spectral(D, y_i, s_i, row, BITS)
    elif KIND == "clip_map":
        x0_i = clip(D, y_i, numbers + image % rows * 3, row)
    else:
        x0_i = quantization(D, y_i, numbers + image % rows, row)
    eps = tl.zeros(i.shape, tl.float32)
    if level(row, 7) != 0:
        a, b, c, d = normals(tl.load(keys + image), tl.load(row + 9).to(tl.int64), counter)
        eps = tl.join(tl.join(a, b), tl.join(c, d))
    write(x, x0, network_input, i, place, within, x0_i, eps, row)


@triton.jit(do_not_specialize=["programs", "height", "width", "level_rows", "rows"])
def jpeg_step_kernel(
    x, x0, network_input, F, y, keys, levels, tables, programs, height, width, level_rows, rows, BORDER: tl.constexpr,
    MATRICES: tl.constexpr, CHANNELS: tl.constexpr, SUB_H: tl.constexpr, SUB_W: tl.constexpr, AVERAGE: tl.constexpr,
    CHANNELS_LAST: tl.constexpr, BLOCKS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    # x, x0, y, F, network_input: [images, CHANNELS, height, width]; levels: [level_rows, 10]; tables: [rows, 2, 8, 8].
    # Programs are those of jpeg_kernel. x0 first holds D.
    image = tl.program_id(0) // programs
    row, column, there, cut = places(tl.program_id(0) % programs, height, width, BORDER, SUB_H, SUB_W, BLOCKS)
    level_row = levels + image % level_rows * COLUMNS
    at, repeated, plane = offsets(row, column, height, width, WIDE)
    first = image.to(tl.int64) * CHANNELS * plane
    exists = (there & (row < height) & (column < width)) if BORDER else there
    for channel in range(CHANNELS):
        here = at + channel * plane
        place = network_place(here, CHANNELS, plane, CHANNELS_LAST)
        tl.store(x0 + first + here, denoised(x, F, first + here, first + place, exists, level_row), exists)
    tl.debug_barrier()
    map_mcus(
        x0 + first, x0 + first, y + first, at, repeated, plane, there, exists, cut,
        tables + image % rows * 128, level_row, MATRICES, CHANNELS, SUB_H, SUB_W, AVERAGE,
    )  # fmt: skip
    tl.debug_barrier()
    for channel in range(CHANNELS):
        here = at + channel * plane
        place = network_place(here, CHANNELS, plane, CHANNELS_LAST)
        eps = tl.zeros(here.shape, tl.float32)
        if level(level_row, 7) != 0:
            eps = normal_at(tl.load(keys + image), tl.load(level_row + 9).to(tl.int64), here)
        x0_i = tl.load(x0 + first + here, exists)
        write(x + first, x0 + first, network_input + first, here, place, exists, x0_i, eps, level_row)


def step(
    x: Tensor,
    x0: Tensor,
    network_input: Tensor,
    F: Tensor | None,
    y: Tensor,
    keys: Tensor,
    levels: Tensor,
    most: int,
    kind: str,
    numbers: Sequence[Tensor],
    matrices: Sequence[float],
    subsampling: Sequence[int],
    average: bool,
) -> None:
    if not x.numel():
        return
    batch, channels = x.shape[:2]
    tensors = (x, x0, network_input, F, y, keys, levels, numbers[0] if numbers else None)
    rows, last = len(numbers[0]) if numbers else 1, not network_input.is_contiguous()
    if kind == "jpeg_map":
        height, width = x.shape[2:]
        programs, border = grid(height, width, subsampling)
        launch(
            jpeg_step_kernel, batch * programs, *tensors, programs, height, width, len(levels), rows,
            BORDER=border, MATRICES=tuple(matrices), CHANNELS=channels, SUB_H=subsampling[0], SUB_W=subsampling[1],
            AVERAGE=average, CHANNELS_LAST=last, BLOCKS=LUMA_BLOCKS, WIDE=wide(x), num_warps=JPEG_WARPS, num_stages=1,
        )  # fmt: skip
    else:
        pixels = x.numel() // (batch * channels)
        one_s = kind == "diagonal_map" and numbers[0].shape[1] == 1
        launch(
            pixel_step_kernel, batch * triton.cdiv(channels * pixels, 4 * COUNTERS),
            *tensors, pixels, channels, len(levels), rows, KIND=kind, ONE_S=one_s,
            CHANNELS_LAST=last, BITS=most.bit_length() if kind == "diagonal_map" else 0,
            BLOCK=COUNTERS, WIDE=wide(x), num_warps=WARPS,
        )  # fmt: skip
