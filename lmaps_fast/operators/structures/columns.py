"""Fourier transforms of large images on CPUs, whose columns are transformed a few at a time, in the cache."""

from collections.abc import Callable

import torch
from torch import Tensor

COLUMNS = 32  # transformed at a time; quickest on CPUs from 16 to 64
ROWS = 64
LARGE = 1024 * 1024  # pixels of an image above which this is quicker than transforms of the whole


def through_columns(F: Tensor, length: int, change: Callable[[Tensor, slice], Tensor]) -> None:
    """F <- IFFT(change(FFT(F))) along the columns, both orthonormal, in place.

    Args:
        F: complex, [H, n].
        length: of the transforms, at least H: F is continued by zeros, and what comes back is cut to H.
        change: (X [columns, length], which columns) -> like X.
    """
    for start in range(0, F.shape[1], COLUMNS):
        which = slice(start, min(start + COLUMNS, F.shape[1]))
        X = torch.fft.fft(F[:, which].T.contiguous(), n=length, norm="ortho")
        F[:, which] = torch.fft.ifft(change(X, which), norm="ortho")[:, : F.shape[0]].T


def strips(height: int) -> list[slice]:
    """The rows of an image, a few at a time."""
    return [slice(start, min(start + ROWS, height)) for start in range(0, height, ROWS)]


def spectrum_of(kernel: Tensor, height: int, width: int) -> Tensor:
    """rfft2 of a small kernel in the middle of whose [h, w] is the origin, [height, width / 2 + 1], in complex128.

    By products with the few columns of the Fourier matrices that are needed: a transform of a large, nearly empty image
    takes longer.
    """
    h, w = kernel.shape
    rows = wave(torch.arange(height), torch.arange(h) - h // 2, height)
    columns = wave(torch.arange(w) - w // 2, torch.arange(width // 2 + 1), width)
    return rows @ (kernel.to(torch.complex128) @ columns)


def wave(a: Tensor, b: Tensor, n: int) -> Tensor:
    """exp(-2 pi i a b / n) for each pair."""
    angle = (-2 * torch.pi / n) * (a[:, None] * b % n).double()
    return torch.polar(torch.ones_like(angle), angle)
