"""Products with banded matrices in blocks: linear in pixels, at the speed of dense products, never a whole matrix."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

BLOCK = 32  # measurements of one block; quickest on CPUs from 16 to 64
STRIP = 1 << 20  # pixels that are worked on at a time


@dataclass(frozen=True)
class Factor:
    """Matrices of one kind, one for each length n: away from the borders their rows repeat, shifted by the stride.

    Equal to another of the same kind, whatever its taps: these are numbers of an operator.

    Args:
        make: (taps, n) -> the matrix [ceil(n / stride), n] in float64; a function of a module.
        taps: what a row holds, [t] in float64.
        stride: pixels from one row to the next.
        reach: pixels that a row touches at most to either side of its own `stride` pixels; what is mirrored at a border
            stays within them.
    """

    make: Callable[[Tensor, int], Tensor]
    taps: Tensor = field(compare=False, repr=False)
    stride: int
    reach: int

    def matrix(self, n: int) -> Tensor:
        """The matrix [ceil(n / stride), n] in float64."""
        return self.make(self.taps, n)

    def bands(self, n: int, dtype: torch.dtype, device: torch.device | str) -> tuple["Block", ...]:
        """The matrix of length n, in blocks.

        Args:
            n: pixels.
            dtype: of the blocks.
            device: of the blocks.
        """
        q, s = max(BLOCK, -(-self.reach // self.stride)), self.stride
        repeats = -(-n // s) // q - 3  # so often the block in the middle comes again
        small = self.matrix(n - max(repeats, 0) * q * s).to(device, dtype)
        if repeats < 1:
            return (Block(slice(0, small.shape[0]), slice(0, n), small),)
        head, middle = slice(0, q * s + self.reach), slice(q * s - self.reach, 2 * q * s + self.reach)
        blocks = [Block(slice(0, q), head, small[:q, head].contiguous())]
        matrix = small[q : 2 * q, middle].contiguous()
        blocks += [
            Block(shifted(slice(q, 2 * q), j * q), shifted(middle, j * q * s), matrix) for j in range(repeats + 1)
        ]
        tail = slice(2 * q * s - self.reach, small.shape[1])
        last = shifted(slice(2 * q, small.shape[0]), repeats * q)
        return (*blocks, Block(last, shifted(tail, repeats * q * s), small[2 * q :, tail].contiguous()))

    def transposed(self, n: int, dtype: torch.dtype, device: torch.device | str) -> tuple["Block", ...]:
        """The transpose of the matrix of length n, in blocks. Arguments as of `bands`."""
        s, extra = self.stride, -(-self.reach // self.stride)
        q = max(BLOCK, 2 * extra)
        repeats = -(-n // s) // q - 3
        small = self.matrix(n - max(repeats, 0) * q * s).T.to(device, dtype)
        if repeats < 1:
            return (Block(slice(0, n), slice(0, small.shape[1]), small.contiguous()),)
        head, middle = slice(0, q + extra), slice(q - extra, 2 * q + extra)
        blocks = [Block(slice(0, q * s), head, small[: q * s, head].contiguous())]
        matrix = small[q * s : 2 * q * s, middle].contiguous()
        blocks += [
            Block(shifted(slice(q * s, 2 * q * s), j * q * s), shifted(middle, j * q), matrix)
            for j in range(repeats + 1)
        ]
        tail = slice(2 * q - extra, small.shape[1])
        last = shifted(slice(2 * q * s, small.shape[0]), repeats * q * s)
        return (*blocks, Block(last, shifted(tail, repeats * q), small[2 * q * s :, tail].contiguous()))


class Block(NamedTuple):
    """The only columns that some rows of a matrix touch, and what is there."""

    rows: slice
    columns: slice
    matrix: Tensor


def shifted(part: slice, by: int) -> slice:
    return slice(part.start + by, part.stop + by)


def product(rows: Sequence[Block], x: Tensor, columns: Sequence[Block]) -> Tensor:
    """G_h x G_w^T for banded G_h and G_w.

    Args:
        rows: G_h [h, H] in blocks.
        x: images [..., H, W].
        columns: G_w [w, W] in blocks.

    Returns [..., h, w].
    """
    out = x.new_empty(*x.shape[:-2], rows[-1].rows.stop, columns[-1].rows.stop)
    return add_product(out, rows, x, columns, beta=0)


def add_product(
    out: Tensor, rows: Sequence[Block], x: Tensor, columns: Sequence[Block], beta: float = 1, alpha: float = 1
) -> Tensor:
    """out <- beta out + alpha G_h x G_w^T, strip after strip, so that what lies between stays in the cache.

    Args:
        out: [..., h, w], contiguous; overwritten.
        rows, x, columns: as of `product`.
        beta: 0 leaves out what was in `out`, NaN too.
        alpha: a factor.
    """
    for source, target in zip(x.flatten(0, -3), out.view(-1, *out.shape[-2:]), strict=True):
        for strip in strips(rows, x.shape[-1]):
            top, bottom = strip[0].rows.start, strip[-1].rows.stop
            first, last = strip[0].columns.start, strip[-1].columns.stop
            goal = target[top:bottom]
            if bottom - top <= last - first:  # the rows first, where that leaves less to do
                between = source.new_empty(bottom - top, x.shape[-1])
                for part in strip:
                    torch.mm(part.matrix, source[part.columns], out=between[shifted(part.rows, -top)])
                across(goal, between, columns, beta, alpha)
            else:
                between = source.new_empty(last - first, out.shape[-1])
                across(between, source[first:last], columns, 0, 1)
                for part in strip:
                    target[part.rows].addmm_(
                        part.matrix, between[shifted(part.columns, -first)], beta=beta, alpha=alpha
                    )
    return out


def strips(blocks: Sequence[Block], width: int) -> list[Sequence[Block]]:
    """The blocks in groups that follow each other and touch about STRIP pixels of an image of this width."""
    each = max(1, STRIP // (width * max(blocks[0].matrix.shape)))
    return [blocks[i : i + each] for i in range(0, len(blocks), each)]


def across(out: Tensor, x: Tensor, columns: Sequence[Block], beta: float, alpha: float) -> None:
    """out <- beta out + alpha x G^T for one strip x [h, W]."""
    for part in columns:
        out[:, part.rows].addmm_(x[:, part.columns], part.matrix.T, beta=beta, alpha=alpha)
