"""Local MAP where A^T A is diagonal, over pixels or over an eigenbasis; the mathematics is csrc/core/pointwise.h."""

from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from lmaps_fast.local_map import Weights

BLOCK = 1024


@triton.jit
def phi(s, lam, c, lr, STEPS: tl.constexpr, BITS: tl.constexpr):  # type: ignore[no-untyped-def]
    # lr * sum_{j<K} (1 - lr h)^j by doubling over the bits of K; see lmaps_fast.local_map.phi
    z = lr * (lam + c * s)
    total = z * 0 + 1
    for bit in tl.static_range(1, BITS):
        total = total * (2 - z * total)
        if (STEPS >> (BITS - 1 - bit)) & 1:
            total = 1 + (1 - z) * total
    return lr * total


@triton.jit
def pointwise_kernel(  # type: ignore[no-untyped-def]
    out, D, y, s, weights, pixels, s_rows, s_repeat,
    DIAGONAL: tl.constexpr, STEPS: tl.constexpr, BITS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # out, D, y: [rows, pixels]; s: [s_rows, pixels]; weights: [lam, c, lr]; one program per (block of pixels, row)
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    row = tl.program_id(1).to(tl.int64)
    inside = i < pixels
    at = row * pixels + i
    lam, c, lr = tl.load(weights), tl.load(weights + 1), tl.load(weights + 2)
    D_i = tl.load(D + at, inside)
    y_i = tl.load(y + at, inside)
    s_i = tl.load(s + row // s_repeat % s_rows * pixels + i, inside)
    result = phi(s_i, lam, c, lr, STEPS, BITS) * c * (y_i - s_i * D_i)
    if DIAGONAL:
        result += D_i
    tl.store(out + at, result, inside)


@lru_cache(maxsize=1024)
def _on_device(weights: Weights, dtype: torch.dtype, device: torch.device) -> Tensor:
    # Scalar arguments of Triton are float32; a tensor keeps float64, and a schedule reuses its own.
    return torch.tensor([weights.lam, weights.c, weights.lr], dtype=dtype, device=device)


def _launch(D: Tensor, y: Tensor, s: Tensor, s_repeat: int, weights: Weights, diagonal: bool) -> Tensor:
    out = torch.empty_like(D)
    pixels = s.shape[-2] * s.shape[-1]
    rows = D.numel() // pixels
    if rows:
        pointwise_kernel[(triton.cdiv(pixels, BLOCK), rows)](
            out, D, y, s, _on_device(weights, D.dtype, D.device), pixels, s.numel() // pixels, s_repeat,
            DIAGONAL=diagonal, STEPS=weights.steps, BITS=weights.steps.bit_length(), BLOCK=BLOCK,
        )  # fmt: skip
    return out


def diagonal_map(D: Tensor, b: Tensor, s: Tensor, weights: Weights) -> Tensor:
    return _launch(D, b, s, D.shape[1], weights, diagonal=True)


def spectral_update(D: Tensor, b: Tensor, s: Tensor, weights: Weights) -> Tensor:
    return _launch(D, b, s, 1, weights, diagonal=False)
