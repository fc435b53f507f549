"""Structure: correlation with any kernel after reflect padding, as cameras and most protocols blur."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lmaps_fast.door import complex_of
from lmaps_fast.errors import InputError
from lmaps_fast.operators.structures.krylov import Krylov


class ReflectBlur(Krylov):
    """A(x)[i] = sum_j k[j] x[i + j - centre], x mirrored at its borders without repeating the edge pixel.

    Computed by FFT on the padded image. The mirror makes A^T A diagonal in no fixed basis unless the kernel is
    separable, so the local MAP is that of `Krylov`.

    Args:
        shape: (C, H, W) of the images.
        kernel: k, [h, w] with odd sides, up to twice the image.
        dtype, device: of the images; default float32, "cpu".

    Errors: InputError for a kernel that reaches further.
    """

    channelwise = True

    transfer: Tensor  # [1 or B, 1, size]

    def __init__(
        self,
        shape: Sequence[int],
        kernel: Tensor,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(shape, dtype, device)
        self.radius = tuple(side // 2 for side in kernel.shape)
        for radius, side in zip(self.radius, shape[1:], strict=True):
            if radius >= side:
                raise InputError(
                    f"the kernel reaches {radius} pixels but a side of the image has {side}: use a smaller kernel"
                )
        self.padded = tuple(side + 2 * radius for side, radius in zip(shape[1:], self.radius, strict=True))
        self.size = tuple(fast_length(n) for n in self.padded)
        transfer = torch.fft.rfft2(kernel.double(), s=self.size).conj().resolve_conj()
        self.number("transfer", transfer[None, None], complex_of(dtype))

    def forward(self, x: Tensor) -> Tensor:
        r_h, r_w = self.radius
        X = torch.fft.rfft2(F.pad(x, (r_w, r_w, r_h, r_h), mode="reflect"), s=self.size)
        return torch.fft.irfft2(X.mul_(self.transfer), s=self.size)[..., : self.shape[1], : self.shape[2]]

    def adjoint(self, r: Tensor) -> Tensor:
        R = torch.fft.rfft2(r, s=self.size)
        padded = torch.fft.irfft2(R.mul_(self.transfer.conj()), s=self.size)[..., : self.padded[0], : self.padded[1]]
        return reflect_back(reflect_back(padded, -2, self.radius[0]), -1, self.radius[1])


def reflect_back(x: Tensor, dim: int, radius: int) -> Tensor:
    """The adjoint of reflect padding along one dimension: what was mirrored is added to where it came from."""
    n = x.shape[dim] - 2 * radius
    out = x.narrow(dim, radius, n).clone()
    if radius:
        out.narrow(dim, 1, radius).add_(x.narrow(dim, 0, radius).flip(dim))
        out.narrow(dim, n - 1 - radius, radius).add_(x.narrow(dim, n + radius, radius).flip(dim))
    return out


def fast_length(n: int) -> int:
    """The least even length of at least n without a prime factor above 5: FFT libraries are quick there."""
    n += n % 2
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 2
