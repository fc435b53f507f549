"""Structure: circular correlation with a kernel, diagonal in the Fourier basis."""

from collections.abc import Sequence
from functools import partial
from itertools import product

import torch
from torch import Tensor

from lmaps_fast import ops
from lmaps_fast.door import complex_of
from lmaps_fast.errors import InputError
from lmaps_fast.operators.structures import columns
from lmaps_fast.operators.structures.spectral import Spectral
from lmaps_fast.weights import AnyWeights, WeightTable, table


class Fourier(Spectral):
    """A(x)[i] = sum_j k[j] x[i + j - centre], indices modulo the image's size.

    A^T A has the eigenvalues |F k|^2. Its real orthonormal eigenbasis is that of the Hartley transform, Re F - Im F,
    which `to_eigenbasis` gives; the filters take the real FFT, at half the work.

    Args:
        shape: (C, H, W) of the images.
        kernel: k, [h, w] with odd sides, not larger than the image.
        dtype, device: of the images; default float32, "cpu".

    Errors: InputError for a kernel larger than the image.
    """

    channelwise = True

    transfer: Tensor  # [1 or B, 1, H, W / 2 + 1]
    values: Tensor  # [1 or B, H, W]
    s_pairs: Tensor  # [1 or B, H, 2 (W / 2 + 1)], each eigenvalue for a real and an imaginary part
    s_columns: Tensor  # [1 or B, W / 2 + 1, 2 H], of a large image in place of these two

    def __init__(
        self,
        shape: Sequence[int],
        kernel: Tensor,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(shape, dtype, device)
        height, width = kernel.shape
        if height > shape[1] or width > shape[2]:
            raise InputError(
                f"the kernel is {width}x{height} but the image is {shape[2]}x{shape[1]}: use a smaller kernel"
            )
        self.large = shape[1] * shape[2] > columns.LARGE and self.device.type == "cpu"
        if self.large:
            self.prepares = True
            half = columns.spectrum_of(kernel, shape[1], shape[2])
            self.number("transfer", half.conj().resolve_conj()[None, None], complex_of(dtype))
            self.number("s_columns", half.T.abs().square().repeat_interleave(2, 1)[None])
            return
        whole = torch.zeros(*shape[1:], dtype=torch.float64)
        whole[:height, :width] = kernel
        whole = whole.roll((-(height // 2), -(width // 2)), (0, 1))
        s = torch.fft.fft2(whole).abs().square()[None]
        self.number("transfer", torch.fft.rfft2(whole).conj().resolve_conj()[None, None], complex_of(dtype))
        self.number("values", s)
        self.number("s_pairs", s[..., : shape[2] // 2 + 1].repeat_interleave(2, -1))

    @property
    def s(self) -> Tensor:  # type: ignore[override]
        """The eigenvalues, [1 or B, H, W]."""
        if not self.large:
            return self.values
        rows, width = -torch.arange(self.shape[1]), self.shape[2]
        half = self.s_columns[:, :, ::2].mT
        mirrored = half[:, rows, 1 : (width + 1) // 2].flip(2)  # of -frequency in both directions
        return torch.cat((half, mirrored), 2)

    def largest_eigenvalues(self) -> list[float]:
        return (self.s_columns if self.large else self.values).flatten(1).amax(1).tolist()

    def prepare(self, y: Tensor) -> Tensor:
        """The spectrum of A^T y; of a large image column after column, [B, C, W / 2 + 1, 2 H]."""
        if not self.large:
            return self.precompute(y)
        Y = self.transfer.conj() * torch.fft.rfft2(y, norm="ortho")
        return torch.view_as_real(Y.mT.contiguous()).flatten(-2)

    def local_map(self, D: Tensor, data: Tensor, weights: AnyWeights) -> Tensor:
        known = table(weights, D.device)
        if not self.large:
            return super().local_map(D, data, known)
        x = torch.empty_like(D)
        for n, c in product(range(len(D)), range(D.shape[1])):
            s, b, w = self.s_columns[n if self.batch > 1 else 0], data[n, c], known.image(n)
            F = torch.fft.rfft(D[n, c], norm="ortho")
            columns.through_columns(F, self.shape[1], partial(filtered, s, b, w))
            for rows in columns.strips(self.shape[1]):
                update = torch.fft.irfft(F[rows], n=self.shape[2], norm="ortho")
                torch.add(D[n, c, rows], update, out=x[n, c, rows])
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self._inverse(self.transfer * torch.fft.rfft2(x))

    def adjoint(self, r: Tensor) -> Tensor:
        return self._inverse(self.transfer.conj() * torch.fft.rfft2(r))

    def _inverse(self, X: Tensor) -> Tensor:
        return torch.fft.irfft2(X, s=self.shape[1:])

    def to_eigenbasis(self, x: Tensor) -> Tensor:
        X = torch.fft.fft2(x, norm="ortho")
        return X.real - X.imag

    def from_eigenbasis(self, u: Tensor) -> Tensor:
        return self.to_eigenbasis(u)  # the Hartley transform is its own inverse

    def spectrum(self, x: Tensor) -> Tensor:
        """The real FFT as pairs of real and imaginary parts, [B, C, H, 2 (W / 2 + 1)]."""
        return torch.view_as_real(torch.fft.rfft2(x)).flatten(-2)

    def from_spectrum(self, u: Tensor) -> Tensor:
        return self._inverse(torch.view_as_complex(u.unflatten(-1, (-1, 2))))

    @property
    def spectrum_s(self) -> Tensor:
        return self.s_columns[:, :, ::2].mT.repeat_interleave(2, 2) if self.large else self.s_pairs


def filtered(s: Tensor, b: Tensor, weights: WeightTable, X: Tensor, which: slice) -> Tensor:
    """The update of some columns of a spectrum. s: [W / 2 + 1, 2 H]; b: alike; X: complex, [columns, H]."""
    u = torch.view_as_real(X).flatten(-2)[None]
    u = ops.spectral_update(u, b[which][None], s[which][None], weights)
    return torch.view_as_complex(u[0].unflatten(-1, (-1, 2)))
