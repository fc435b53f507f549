"""Functions of A^T A on large images: exact eigenbases on tiles that overlap by more than the function reaches.

A row of f(A^T A) is as good as zero some way from its own pixel. So what a small operator of the same kind makes of a
tile is right in the middle of the tile; and at the border of the image, where the tile ends with it, up to the border.
The cost per pixel is that of one tile, however large the image.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from lmaps_fast.operators.structures.banded import Factor
from lmaps_fast.weights import Weights, phi

TOLERANCE = 1e-3  # of the update, in the 2-norm
# What tiles are cut for, and thereby for all that is milder: so many steps of the largest size that converges, without
# a prior.
MOST_STEPS, LARGEST_STEP = 128, 1.9


class Tile(NamedTuple):
    """One tile on one axis: pixels start to stop, of which those from first to last (relative to start) are kept."""

    start: int
    stop: int
    first: int
    last: int


class Axis(NamedTuple):
    """The tiles of one axis, all of one length, and the eigenbasis V [p, length / p, r] of their A^T A: eigenvalues s
    [p, r], for p parities as in `kronecker.eigenbasis`."""

    tiles: tuple[Tile, ...]
    s: Tensor
    V: Tensor


def cut(n: int, length: int, overlap: int) -> tuple[Tile, ...]:
    """n pixels in tiles of one length; of each, `overlap` pixels on either side are left out, but for the borders."""
    if n <= length:
        return (Tile(0, n, 0, n),)
    count = -(-(n - 2 * overlap) // (length - 2 * overlap))
    starts = [i * (length - 2 * overlap) for i in range(count - 1)] + [n - length]
    tiles, known = [], 0
    for start in starts:
        end = n if start == n - length else start + length - overlap
        tiles.append(Tile(start, start + length, known - start, end - start))
        known = end
    return tuple(tiles)


def reach(taps: Tensor, power: float) -> tuple[int, float]:
    """How far the worst update reaches, and the share of the largest eigenvalue below which none matters.

    Args:
        taps: a row of A^T A (or A A^T) along one axis, away from the borders, [odd].
        power: of the eigenvalue beside phi in the update: 1/2 for phi(A^T A) A^T y, 0 for phi(A A^T) r.
    """
    n = 64
    while True:
        n = max(2 * n, 1 << (4 * len(taps)).bit_length())
        row = torch.zeros(n, dtype=torch.float64)
        row[: len(taps)] = taps
        s = torch.fft.rfft(row.roll(-(len(taps) // 2))).real.clamp(min=0)
        s = s / s.max()
        update = phi(s, Weights(lam=0.0, k2=1.0, lr=LARGEST_STEP, steps=MOST_STEPS)) * s**power
        response = torch.fft.irfft(update, n=n)[: n // 2].square()
        far = int((tail(response) > TOLERANCE).sum())
        if far < n // 4:
            break
    order = s.argsort(descending=True)
    kept = int((tail(update[order].square()) > TOLERANCE).sum())
    return far, s[order[kept]].item() if kept < len(s) else 0.0


def tail(squares: Tensor) -> Tensor:
    """The share of the norm that lies at and behind each entry."""
    return (squares.flip(0).cumsum(0).flip(0) / squares.sum()).sqrt()


def axis(
    factor: Factor, n: int, eigenbasis: Callable[[Tensor], tuple[Tensor, Tensor]], measured: bool
) -> tuple[Axis, Tensor]:
    """Tiles for one axis, and the matrix of a tile.

    Args:
        factor: the matrices of A along this axis.
        n: pixels.
        eigenbasis: G -> eigenvalues and eigenvectors of G^T G, in float64.
        measured: whether tiles are of measurements and A A^T rather than of pixels and A^T A.
    """
    stride, m = factor.stride, -(-n // factor.stride)
    probe = factor.matrix(8 * factor.reach + 8 * stride)
    normal = probe @ probe.T if measured else probe.T @ probe
    middle, wide = len(normal) // 2, 2 * factor.reach // (stride if measured else 1) + 2
    far, share = reach(normal[middle, middle - wide : middle + wide + 1], 0.0 if measured else 0.5)
    length = min(max(64, 32 * math.ceil(5.5 * far / 32)), m)
    # Pixels that are missing from the last measurement are missing from that of each tile: the others leave it out.
    G = factor.matrix(length * stride - (m * stride - n) if measured else length)
    s, V = eigenbasis(G.T if measured else G)
    rank = int((s > share * s.max()).sum(1).max())
    return Axis(cut(m if measured else n, length, far), s[:, -rank:], V[:, :, -rank:]), G


def analyse(strip: Tensor, tiles: tuple[Tile, ...], A_h: Tensor, A_w: Tensor) -> Tensor:
    """The coefficients of one row of tiles: [B, C, tiles, p_w p_h r_h, r_w].

    Args:
        strip: the part of an image with that row, [B, C, length, W].
        tiles: where they are on the horizontal axis.
        A_h: V^T, [p, r, length / p], or a matrix of tiles that are not folded, [p, r, length].
        A_w: V, [p, length / p, r], or likewise.
    """
    z = (A_h @ fold(strip, -2, strip.shape[-2] // A_h.shape[-1])).flatten(-3, -2)
    z = torch.stack([z[..., tile.start : tile.stop] for tile in tiles], 2)
    return (fold(z, -1, z.shape[-1] // A_w.shape[-2]) @ A_w).flatten(-3, -2)


def synthesise(u: Tensor, row: Tile, tiles: tuple[Tile, ...], V_h: Tensor, Vt_w: Tensor) -> Tensor:
    """What is kept of one row of tiles with these coefficients, [B, C, row.last - row.first, W].

    Args:
        u, tiles: as of `analyse`.
        row: where the tiles are on the vertical axis.
        V_h: V, [p, length / p, r].
        Vt_w: V^T, [p, r, length / p].
    """
    p_w, (p_h, _, r_h) = len(Vt_w), V_h.shape
    z = unfold(u.view(*u.shape[:3], p_w, p_h * r_h, -1) @ Vt_w, -1)
    z = torch.cat([z[:, :, j, :, tile.first : tile.last] for j, tile in enumerate(tiles)], -1)
    rim = min(row.first, row.stop - row.start - row.last)  # what is left out on both sides is not computed
    V_h = V_h[:, rim:] if p_h == 2 else V_h[:, rim : V_h.shape[1] - rim]
    return unfold(V_h @ z.unflatten(-2, (p_h, r_h)), -2)[..., row.first - rim : row.last - rim, :]


def pieces(
    x: Tensor, rows: Axis, columns: Axis, update: Callable[[Tensor, int], Tensor]
) -> Iterator[tuple[slice, Tensor]]:
    """V update(V^T x), one row of tiles after the other: where it belongs and what it is.

    Args:
        x: images [B, C, H, W].
        rows, columns: the tiles, V in the precision of x.
        update: (coefficients as of `analyse`, the index of the row) -> coefficients.
    """
    Vt_h, Vt_w = rows.V.mT.contiguous(), columns.V.mT.contiguous()
    for i, row in enumerate(rows.tiles):
        u = update(analyse(x[..., row.start : row.stop, :], columns.tiles, Vt_h, columns.V), i)
        yield (
            slice(row.start + row.first, row.start + row.last),
            synthesise(u, row, columns.tiles, rows.V, Vt_w),
        )


def eigenvalues(rows: Axis, columns: Axis) -> Tensor:
    """Those of the coefficients of a tile, [p_w p_h r_h, r_w]."""
    return (rows.s.flatten()[:, None] * columns.s[:, None]).flatten(0, 1)


def fold(x: Tensor, dim: int, parities: int) -> Tensor:
    """Even and odd part of x along dim -2 or -1, of half its length each: a new dimension before those two."""
    if parities == 1:
        return x.unsqueeze(-3)
    left, right = x.chunk(2, dim)
    right = right.flip(dim)
    return torch.stack((left + right, left - right), -3)


def unfold(parts: Tensor, dim: int) -> Tensor:
    """The inverse of `fold`, up to its factor of 2."""
    if parts.shape[-3] == 1:
        return parts.squeeze(-3)
    even, odd = parts.unbind(-3)
    return torch.cat((even + odd, (even - odd).flip(dim)), dim)
