"""Phase retrieval: y = |F(x)| + noise, the magnitude of an oversampled Fourier transform."""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from lmaps_fast import ops
from lmaps_fast.errors import InputError
from lmaps_fast.operators.base import Operator
from lmaps_fast.operators.structures import columns
from lmaps_fast.presets import Preset
from lmaps_fast.weights import AnyWeights, WeightTable, table


class PhaseRetrieval(Operator):
    """A(x) = |F(pad(x / 2 + 1/2))| with the centred orthonormal 2-D DFT, zeros around the image. Protocol of DAPS.

    A sampler may end far from the image, so several `runs` are made and the one that fits the measurement best is kept.
    (The image turned by 180 degrees has the same measurement: no misfit can tell the two apart.)

    Args:
        shape: (C, H, W) of the images.
        oversampling: int(oversampling / 8 * n) zeros on either side of n pixels, 0 to 16; default 2, the protocol's,
            which makes 384 of 256.
        dtype, device: of the images; default float32, "cpu".

    Errors: InputError for another oversampling.
    """

    name = "phase_retrieval"
    collapses = True
    channelwise = True
    runs = 4
    presets: ClassVar = {
        "paper": Preset(200, 100, 0.1, 10, 0.3),
        # By a grid over k1, lr k2, sigma_max and sigma_min on six crops of 96x96.
        "natural": Preset(20, 100, 0.1, 0.3, 30, sigma_max=10.0, sigma_min=0.05),
    }

    def __init__(
        self,
        shape: Sequence[int],
        oversampling: float = 2.0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(shape, dtype, device)
        if not 0 <= oversampling <= 16:
            raise InputError(f"oversampling must be from 0 to 16, not {oversampling}")
        self.margin = tuple(int(oversampling / 8 * n) for n in shape[1:])
        self.size = tuple(n + 2 * m for n, m in zip(shape[1:], self.margin, strict=True))
        self.measurement_shape = (shape[0], *self.size)
        self.large = shape[1] * shape[2] > columns.LARGE and self.device.type == "cpu"

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
        if self.large:
            half = half.mT  # column after column
        return half[..., None].expand(*half.shape, 2).contiguous()

    def largest_eigenvalues(self) -> list[float]:
        """|A'|^2 where y = |X|; its curvature is less elsewhere."""
        return [0.25]

    def local_map(self, D: Tensor, y: Tensor, weights: AnyWeights) -> Tensor:
        """K steps, in u = x / 2 + 1/2: u <- u - lr (lam (u - u_D) + c / 4 (u - F^H y X / |X|)), F^H F = 1.

        Rows and columns that are zero, or that are cut away, are left out of the transforms.
        """
        (height, width), (n_h, n_w) = self.shape[1:], self.size
        known = table(weights, D.device)
        lam, c, lr, K = known.columns(D)
        u_D = D / 2 + 0.5
        u, prior, data = u_D, lr * lam * u_D, lr * c / 4
        keep = 1 - lr * lam - data
        if self.large:
            u = u.clone()
            for n, channel in product(range(len(u)), range(u.shape[1])):
                self._descend(u[n, channel], prior[n, channel], y[n, channel], known.image(n))
            return u.mul_(2).sub_(1)
        for k in range(known.most):
            X = torch.fft.fft(torch.fft.rfft(u, n=n_w, norm="ortho"), n=n_h, dim=-2, norm="ortho")
            X = torch.fft.ifft(ops.phase_projection(X, y), dim=-2, norm="ortho")[..., :height, :]
            fitted = torch.fft.irfft(X, n=n_w, norm="ortho")[..., :width]
            following = torch.addcmul(prior, u, keep).addcmul_(fitted, data)
            u = following if len(K) == 1 else torch.where(k < K, following, u)
        return 2 * u - 1

    def _descend(self, u: Tensor, prior: Tensor, y: Tensor, weights: WeightTable) -> None:
        """The K steps of one large channel u [H, W], in place, a few columns and rows at a time."""
        w = weights.single
        data, keep = w.lr * w.c / 4, 1 - w.lr * w.lam - w.lr * w.c / 4
        F = torch.fft.rfft(u, n=self.size[1], norm="ortho")
        for step in range(int(w.steps)):
            columns.through_columns(F, self.size[0], lambda X, which: ops.phase_projection(X, y[which]))
            for strip in columns.strips(self.shape[1]):
                fitted = torch.fft.irfft(F[strip], n=self.size[1], norm="ortho")[:, : self.shape[2]]
                part = u[strip]
                part.mul_(keep).add_(prior[strip]).add_(fitted, alpha=data)
                if step + 1 < w.steps:
                    F[strip] = torch.fft.rfft(part, n=self.size[1], norm="ortho")


def centred(transform: Callable[..., Tensor], x: Tensor) -> Tensor:
    """An orthonormal 2-D transform with the origin in the middle on both sides."""
    shifted = torch.fft.ifftshift(x, dim=(-2, -1))
    return torch.fft.fftshift(transform(shifted, norm="ortho"), dim=(-2, -1))
