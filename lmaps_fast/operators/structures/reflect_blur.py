"""Structure: correlation with any kernel after reflect padding, as cameras and most protocols blur."""

from collections.abc import Callable, Sequence
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from lmaps_fast.door import complex_of
from lmaps_fast.errors import InputError
from lmaps_fast.operators.structures.krylov import Krylov
from lmaps_fast.operators.structures.tiles import Tile, cut

TILE = 1024  # the least length of the transforms of a tile


class ReflectBlur(Krylov):
    """A(x)[i] = sum_j k[j] x[i + j - centre], x mirrored at its borders without repeating the edge pixel.

    Computed by FFT on the padded image. The mirror makes A^T A diagonal in no fixed basis unless the kernel is
    separable, so the local MAP is that of `Krylov`. A large image is treated in tiles, whose transforms stay in the
    cache and are of quick lengths.

    Args:
        shape: (C, H, W) of the images.
        kernel: k, [h, w] with odd sides, up to twice the image.
        dtype, device: of the images; default float32, "cpu".

    Errors: InputError for a kernel that reaches further.
    """

    channelwise = True
    exact = frozenset({"kernel"})

    transfer: Tensor  # [1 or B, 1, size]
    kernel: Tensor  # of a large image [1 or B, h, w] in its place

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
        lengths = [fast_length(max(TILE, 24 * radius)) - 2 * radius for radius in self.radius]
        self.large = shape[1] * shape[2] > 4 * lengths[0] * lengths[1]
        if self.large:
            self.number("kernel", kernel[None].double(), torch.float64)
            return
        self.padded = tuple(side + 2 * radius for side, radius in zip(shape[1:], self.radius, strict=True))
        self.size = tuple(fast_length(n) for n in self.padded)
        transfer = torch.fft.rfft2(kernel.double(), s=self.size).conj().resolve_conj()
        self.number("transfer", transfer[None, None], complex_of(dtype))

    def forward(self, x: Tensor) -> Tensor:
        if self.large:
            return self._each(x, LargeReflectBlur.forward)
        r_h, r_w = self.radius
        X = torch.fft.rfft2(F.pad(x, (r_w, r_w, r_h, r_h), mode="reflect"), s=self.size)
        return torch.fft.irfft2(X.mul_(self.transfer), s=self.size)[..., : self.shape[1], : self.shape[2]]

    def adjoint(self, r: Tensor) -> Tensor:
        if self.large:
            return self._each(r, LargeReflectBlur.adjoint)
        R = torch.fft.rfft2(r, s=self.size)
        padded = torch.fft.irfft2(R.mul_(self.transfer.conj()), s=self.size)[..., : self.padded[0], : self.padded[1]]
        return reflect_back(reflect_back(padded, -2, self.radius[0]), -1, self.radius[1])

    def normal(self, v: Tensor) -> Tensor:
        return self._each(v, LargeReflectBlur.normal) if self.large else super().normal(v)

    def _each(self, x: Tensor, function: Callable[["LargeReflectBlur", Tensor], Tensor]) -> Tensor:
        if self.batch > 1:
            return torch.cat([self.image(n)._each(x[n : n + 1], function) for n in range(len(x))])
        if "_tiled" not in vars(self):
            self._tiled = LargeReflectBlur(self)
        return function(self._tiled, x)


class LargeReflectBlur:
    """The products of a `ReflectBlur` with one large image, in tiles: what is mirrored at the border of a tile, where
    the image goes on, is felt within two radii of it. Away from the borders A^T A is one correlation, with a kernel
    twice as wide."""

    def __init__(self, whole: ReflectBlur) -> None:
        kernel, self.radius, (channels, *sides) = whole.kernel[0], whole.radius, whole.shape
        place = (whole.dtype, whole.device)
        lengths = [fast_length(max(TILE, 24 * radius)) - 2 * radius for radius in self.radius]
        tile = [min(n, length) for n, length in zip(sides, lengths, strict=True)]
        self.part = ReflectBlur((channels, *tile), kernel, *place)
        reaches = [2 * radius for radius in self.radius]
        self.tiles = [cut(n, side, reach) for n, side, reach in zip(sides, tile, reaches, strict=True)]
        self.strips: list[ReflectBlur | None] = []
        if all(n > length + 2 * reach for n, length, reach in zip(sides, lengths, reaches, strict=True)):
            self.size = tuple(fast_length(length) for length in lengths)
            power = torch.fft.rfft2(kernel, s=self.size).abs().square()
            self.power = power.to(whole.device, whole.dtype)
            self.inner = [cut(n, size, reach) for n, size, reach in zip(sides, self.size, reaches, strict=True)]
            for dim, reach in enumerate(reaches):
                shape = [channels, *sides]
                shape[1 + dim] = 2 * reach
                self.strips.append(ReflectBlur(shape, kernel, *place) if reach else None)

    def forward(self, x: Tensor) -> Tensor:
        return self._in_tiles(self.part.forward, x, self.tiles)

    def adjoint(self, r: Tensor) -> Tensor:
        return self._in_tiles(self.part.adjoint, r, self.tiles)

    def normal(self, v: Tensor) -> Tensor:
        if not self.strips:
            return self._in_tiles(self.part.normal, v, self.tiles)
        out = self._in_tiles(self._interior, v, self.inner)
        for dim, (strip, radius) in enumerate(zip(self.strips, self.radius, strict=True)):
            for end in (slice(0, 4 * radius), slice(v.shape[2 + dim] - 4 * radius, v.shape[2 + dim])):
                if strip:  # right in the half of it that lies at the border
                    half = 0 if end.start == 0 else 2 * radius
                    done = strip.normal(v.narrow(2 + dim, end.start, 4 * radius))
                    out.narrow(2 + dim, end.start + half, 2 * radius).copy_(done.narrow(2 + dim, half, 2 * radius))
        return out

    def _interior(self, v: Tensor) -> Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(v).mul_(self.power), s=self.size)

    @staticmethod
    def _in_tiles(operation: Callable[[Tensor], Tensor], x: Tensor, tiles: list[tuple[Tile, ...]]) -> Tensor:
        """What an operation on tiles makes of x."""
        out = torch.empty_like(x)
        for row, column in product(*tiles):
            rows, columns = slice(row.start, row.stop), slice(column.start, column.stop)
            kept = (..., slice(row.first, row.last), slice(column.first, column.last))
            out[..., rows, columns][kept] = operation(x[..., rows, columns])[kept]
        return out


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
