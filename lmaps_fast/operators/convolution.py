"""The blur operator of a kernel: which structure serves it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lmaps_fast.errors import InputError
from lmaps_fast.operators.base import Linear
from lmaps_fast.operators.structures import Fourier, Kronecker, ReflectBlur
from lmaps_fast.operators.structures.banded import Factor

PADDINGS = ("reflect", "circular")


@dataclass(frozen=True)
class Structures:
    """The classes of a blur: circular, of a kernel that is a product of two vectors, and of any other."""

    circular: type[Fourier] = Fourier
    separable: type[Kronecker] = Kronecker
    other: type[ReflectBlur] = ReflectBlur


def blur(
    shape: Sequence[int],
    kernel: Tensor,
    padding: str = "reflect",
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    structures: Structures = Structures(),  # noqa: B008: it is frozen
) -> Linear:
    """Correlation with one kernel for all channels. The structure is found from the kernel.

    Args:
        shape: (C, H, W) of the images.
        kernel: [h, w] with odd sides, used as it is, not normalised.
        padding: "reflect" (default), the image mirrored at its borders without repeating the edge, or "circular".
        dtype, device: of the images; default float32, "cpu".
        structures: the classes to choose from; default: `Fourier` for circular padding, else `Kronecker` if the kernel
            is a product of two vectors, else `ReflectBlur`.

    Errors: InputError for a kernel that has even sides, no light or NaN, or reaches too far, and another padding.
    """
    kernel = checked(kernel)
    operator: Linear
    if padding == "circular":
        operator = structures.circular(shape, trim(kernel), dtype, device)
    elif padding != "reflect":
        raise InputError(f"unknown padding {padding!r}: choose one of {', '.join(PADDINGS)}")
    elif (factors := separated(trim(kernel))) is not None:
        rows, columns = (reflect_factor(factor) for factor in factors)
        operator = structures.separable(shape, rows, columns, dtype, device)
    else:
        # Kernels of one size make operators of one kind, so a rim of zeros stays unless the image is too small for it.
        small = any(side // 2 >= n for side, n in zip(kernel.shape, shape[1:], strict=True))
        operator = structures.other(shape, trim(kernel) if small else kernel, dtype, device)
    operator.image_like = True
    return operator


def separated(kernel: Tensor) -> tuple[Tensor, Tensor] | None:
    """The two vectors whose product the kernel is, or None."""
    U, s, V = torch.linalg.svd(kernel)
    return (U[:, 0] * s[0], V[0]) if len(s) == 1 or s[1] < 1e-12 * s[0] else None


def checked(kernel: Tensor) -> Tensor:
    if kernel.dim() != 2 or not all(side % 2 for side in kernel.shape):
        raise InputError(f"the kernel has shape {list(kernel.shape)}: it needs two odd sides, so that it has a centre")
    if not torch.isfinite(kernel).all():
        raise InputError("the kernel holds NaN or infinite values: repair it first")
    if not kernel.any():
        raise InputError("the kernel is zero everywhere: give one that lets some light through")
    return kernel.double().cpu()


def trim(kernel: Tensor) -> Tensor:
    """The kernel without the rims that are zero on both sides of an axis."""
    for dim in (0, 1):
        used = kernel.abs().sum(1 - dim).nonzero()
        rim = int(min(used.min(), kernel.shape[dim] - 1 - used.max()))
        kernel = kernel.narrow(dim, rim, kernel.shape[dim] - 2 * rim)
    return kernel


def reflect_factor(kernel: Tensor) -> Factor:
    """The matrices of `reflect_matrix` for all lengths."""
    return Factor(reflect_matrix, kernel, stride=1, reach=len(kernel) // 2)


def reflect_matrix(kernel: Tensor, n: int) -> Tensor:
    """The matrix [n, n] that correlates n samples with an odd kernel after reflect padding."""
    radius = len(kernel) // 2
    if radius >= n:
        raise InputError(f"the kernel reaches {radius} pixels but a side of the image has {n}: use a smaller kernel")
    taps = torch.arange(n)[:, None] + torch.arange(-radius, radius + 1)
    source = (n - 1) - ((n - 1) - taps.abs()).abs()
    return torch.zeros(n, n, dtype=torch.float64).scatter_add_(1, source, kernel.expand(n, -1))


def kernel_of(kernel: Tensor | np.ndarray | str | os.PathLike) -> Tensor:
    """A user's kernel: an array as it is; an image file, grey, black = 0, or a .npy file, normalised to sum 1."""
    if not isinstance(kernel, (str, os.PathLike)):
        return torch.as_tensor(kernel)
    if os.fspath(kernel).endswith(".npy"):
        try:
            values = torch.from_numpy(np.load(kernel, allow_pickle=False)).double()
        except (OSError, ValueError) as error:
            raise InputError(f"{kernel}: this is not an array that can be read ({error})") from None
    else:
        from lmaps_fast.files import image

        values = image.read(kernel).pixels[0].mean(0).double() / 2 + 0.5
    return values / values.sum() if checked(values).sum() else values
