"""Structure: circular correlation with a kernel, diagonal in the Fourier basis."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lmaps_fast.door import complex_of
from lmaps_fast.errors import InputError
from lmaps_fast.operators.structures.spectral import Spectral


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
    s_pairs: Tensor  # [1 or B, H, 2 (W / 2 + 1)], each eigenvalue for a real and an imaginary part

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
        whole = torch.zeros(*shape[1:], dtype=torch.float64)
        whole[:height, :width] = kernel
        whole = whole.roll((-(height // 2), -(width // 2)), (0, 1))
        s = torch.fft.fft2(whole).abs().square()[None]
        self.number("transfer", torch.fft.rfft2(whole).conj().resolve_conj()[None, None], complex_of(dtype))
        self.number("s", s)
        self.number("s_pairs", s[..., : shape[2] // 2 + 1].repeat_interleave(2, -1))

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
        return self.s_pairs
