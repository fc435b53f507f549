"""x + sigma * eps with eps a function of (key, draw, position): Philox4x32-10 and Box-Muller of csrc/core/normal.h."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from lmaps_fast.kernels.blocks import COUNTERS, WARPS
from lmaps_fast.kernels.launch import launch


@triton.jit
def natural_log(u):
    # u = 2^e m with m in [sqrt(1/2), sqrt(2)), then 2 artanh((m - 1) / (m + 1)). The logarithm of the hardware has an
    # absolute error, so near u = 1 it may even be positive.
    bits = u.to(tl.int32, bitcast=True) + (0x3F800000 - 0x3F3504F3)
    e = ((bits >> 23) - 127).to(tl.float32)
    m = ((bits & 0x007FFFFF) + 0x3F3504F3).to(tl.float32, bitcast=True)
    r = (m - 1) / (m + 1)
    s = r * r
    return e * 0.693147180559945 + r * (2 + s * (2 / 3 + s * (2 / 5 + s * (2 / 7 + s * (2 / 9)))))


@triton.jit
def box_muller(u, v):
    # Two normal numbers of two random words. Of v the upper two bits are the quadrant, 24 more the place in it: the
    # angle is pi/2 t from its middle, |t| <= 1/2, where the Taylor series are exact to float32.
    radius = tl.sqrt_rn(-2 * natural_log(((u >> 8) + 1).to(tl.float32) * (1 / 16777216)))
    a = 1.57079632679490 * (((v >> 6) & 0xFFFFFF).to(tl.float32) * (1 / 16777216) - 0.5)
    s = a * a
    sine = a * (1 + s * (-1 / 6 + s * (1 / 120 + s * (-1 / 5040 + s * (1 / 362880)))))
    cosine = 1 + s * (-1 / 2 + s * (1 / 24 + s * (-1 / 720 + s * (1 / 40320 - s * (1 / 3628800)))))
    odd, high = (v >> 31) != 0, ((v >> 30) & 1) != 0
    along = radius * tl.where(odd, sine, cosine)
    across = radius * tl.where(odd, cosine, sine)
    return tl.where(odd != high, -along, along), tl.where(high, -across, across)


@triton.jit
def words_of(counter):
    # The lower and the upper 32 bits of int32 or int64, not negative
    wide = counter.to(tl.int64)
    return wide.to(tl.uint32), (wide >> 32).to(tl.uint32)


@triton.jit
def normals(key, draw, counter):
    # The four numbers of each counter
    low, high = words_of(counter)
    zero = low * 0
    c0, c1, c2, c3 = tl.philox(key, low, high, zero + draw.to(tl.uint32), zero)
    first, second = box_muller(c0, c1)
    third, fourth = box_muller(c2, c3)
    return first, second, third, fourth


@triton.jit
def normal_at(key, draw, position):
    # The number at each position alone: four times the work of `normals`
    i = (position >> 6) & 3
    counter = (position >> 8) * 64 + (position & 63)
    low, high = words_of(counter)
    zero = low * 0
    c0, c1, c2, c3 = tl.philox(key, low, high, zero + draw.to(tl.uint32), zero)
    along, across = box_muller(tl.where(i < 2, c0, c2), tl.where(i < 2, c1, c3))
    return tl.where((i & 1) == 0, along, across)


@triton.jit
def add(out, x, eps, at, within, sigma):
    x_i = tl.load(x + at, within)
    tl.store(out + at, x_i + sigma.to(x_i.dtype) * eps.to(x_i.dtype), within)


@triton.jit(do_not_specialize=["draw_rows", "sigma_rows"])
def normal_kernel(out, x, keys, draw, sigma, pixels, draw_rows, sigma_rows, BLOCK: tl.constexpr):
    # out, x: [images, pixels]; keys: [images]; draw: [draw_rows]; sigma: [sigma_rows]. One program per
    # (image, block of counters)
    blocks = tl.cdiv(pixels, 4 * BLOCK)
    image = tl.program_id(0) // blocks
    counter = (tl.program_id(0) % blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    sigma_i = tl.load(sigma + image % sigma_rows)
    first, second, third, fourth = normals(tl.load(keys + image), tl.load(draw + image % draw_rows), counter)
    # Number 64 i + j of block b is output i of counter 64 b + j, so that neighbours are in neighbouring lanes.
    i = counter // 64 * 256 + counter % 64
    at = image.to(tl.int64) * pixels + i
    add(out, x, first, at, i < pixels, sigma_i)
    add(out, x, second, at + 64, i + 64 < pixels, sigma_i)
    add(out, x, third, at + 128, i + 128 < pixels, sigma_i)
    add(out, x, fourth, at + 192, i + 192 < pixels, sigma_i)


def add_normal(x: Tensor, keys: Tensor, draw: Tensor, sigma: Tensor) -> Tensor:
    out = torch.empty_like(x)
    if x.numel():
        pixels = x.numel() // len(x)
        launch(
            normal_kernel, len(x) * triton.cdiv(pixels, 4 * COUNTERS),
            out, x, keys, draw, sigma, pixels, len(draw), len(sigma),
            BLOCK=COUNTERS, num_warps=WARPS,
        )  # fmt: skip
    return out
