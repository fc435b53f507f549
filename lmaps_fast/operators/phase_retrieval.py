"""Phase retrieval: y = |F(x)| + noise, the magnitude of an oversampled Fourier transform."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lmaps_fast import ops
from lmaps_fast.errors import InputError
from lmaps_fast.local_map import Weights
from lmaps_fast.operators.base import Operator


class PhaseRetrieval(Operator):
    """A(x) = |F(pad(x / 2 + 1/2))| with the centred orthonormal 2-D DFT, zeros around the image. Protocol of DAPS.

    oversampling: int(oversampling / 8 * n) zeros on either side of n pixels; the protocol's 2 makes 384 of 256. A
    sampler may end far from the image, so several `runs` are made and the one that fits the measurement best is kept.
    (The image turned by 180 degrees has the same measurement: no misfit can tell the two apart.)
    """

    name = "phase_retrieval"
    channelwise = True
    runs = 4

    def __init__(
        self, shape: Sequence[int], oversampling: float = 2.0, dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> None:
        super().__init__(shape, dtype, device)
        if not 0 <= oversampling <= 16:
            raise InputError(f"oversampling must be from 0 to 16, not {oversampling}")
        self.margin = tuple(int(oversampling / 8 * n) for n in shape[1:])
        self.size = tuple(n + 2 * m for n, m in zip(shape[1:], self.margin, strict=True))
        self.measurement_shape = (shape[0], *self.size)

    @classmethod
    def image_shape(cls, measured: Sequence[int], **parameters: Any) -> tuple[int, ...]:
        share = parameters.get("oversampling", 2.0) / 8

        def length(size: int) -> int:
            for n in range(size, 0, -1):
                if n + 2 * int(share * n) == size:
                    return n
            raise InputError(f"no image has a measurement of {size} frequencies on a side at this oversampling")

        return (measured[0], *(length(size) for size in measured[1:]))

    def transform(self, x: Tensor) -> Tensor:
        """The complex spectrum of which A(x) is the magnitude."""
        top, left = self.margin
        padded = F.pad(x / 2 + 0.5, (left, left, top, top))
        return centred(torch.fft.fft2, padded)

    def forward(self, x: Tensor) -> Tensor:
        return self.transform(x).abs()

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """1/2 of F^H (|X| - y) X / |X| within the image; 0 where X is 0."""
        X = self.transform(x)
        top, left = self.margin
        back = centred(torch.fft.ifft2, (X.abs() - y) * X.sgn()).real
        return 0.5 * back[..., top : top + self.shape[1], left : left + self.shape[2]]

    def precompute(self, y: Tensor) -> Tensor:
        """The half spectrum of magnitudes for an image in the corner, each twice: [B, C, H', W' / 2 + 1, 2].

        Moving the image changes phases only. For a real image only the mean of y over a frequency and its negative
        has an effect.
        """
        y = torch.fft.ifftshift(y, dim=(-2, -1))
        mirrored = y.flip(-2, -1).roll((1, 1), (-2, -1))
        half = (0.5 * (y + mirrored))[..., : self.size[1] // 2 + 1]
        return half[..., None].expand(*half.shape, 2).contiguous()

    def local_map(self, D: Tensor, y: Tensor, weights: Weights) -> Tensor:
        """K steps, in u = x / 2 + 1/2: u <- u - lr (lam (u - u_D) + c / 4 (u - F^H y X / |X|)), F^H F = 1.

        Rows and columns that are zero, or that are cut away, are left out of the transforms.
        """
        (height, width), (rows, columns) = self.shape[1:], self.size
        u_D = D / 2 + 0.5
        u, prior = u_D, (weights.lr * weights.lam) * u_D
        data = weights.lr * weights.c / 4
        for _ in range(weights.steps):
            X = torch.fft.fft(torch.fft.rfft(u, n=columns, norm="ortho"), n=rows, dim=-2, norm="ortho")
            X = torch.fft.ifft(ops.phase_projection(X, y), dim=-2, norm="ortho")[..., :height, :]
            fitted = torch.fft.irfft(X, n=columns, norm="ortho")[..., :width]
            u = torch.add(prior, u, alpha=1 - weights.lr * weights.lam - data).add_(fitted, alpha=data)
        return 2 * u - 1


def centred(transform: Callable[..., Tensor], x: Tensor) -> Tensor:
    """An orthonormal 2-D transform with the origin in the middle on both sides."""
    shifted = torch.fft.ifftshift(x, dim=(-2, -1))
    return torch.fft.fftshift(transform(shifted, norm="ortho"), dim=(-2, -1))
