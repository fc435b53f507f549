"""x + sigma eps, where eps of image n is a function of (keys[n], draw, position) and standard normal."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lmaps_fast.noise import standard_normal
from lmaps_fast.ops import backends, checks, native
from lmaps_fast.ops.numbers import Number, column
from lmaps_fast.ops.operation import Operation


def torch_form(x: Tensor, keys: Tensor, draw: Tensor, sigma: Tensor) -> Tensor:
    out = torch.empty_like(x)
    draws, sigmas = draw.expand(len(x)), sigma.to(x.dtype).expand(len(x))
    for n in range(len(x)):
        eps = standard_normal(keys[n], draws[n], x[n].numel())
        out[n] = x[n] + sigmas[n] * eps.view_as(x[n]).to(x.dtype)
    return out


def gradient(arguments: list, grad: Tensor) -> tuple[Tensor, None]:
    return grad, None


def fits(x: Tensor, keys: Tensor, draw: Tensor, sigma: Tensor) -> None:
    checks.alike("x", x)
    checks.image_keys(keys, x)
    checks.rows("draw", draw, (), x, torch.int64)
    checks.rows("sigma", sigma, (), x)


def kernel(x: Tensor, keys: Tensor, draw: Tensor, sigma: Tensor) -> Tensor:
    out = torch.empty_like(x)
    if x.numel():
        arguments = backends.native().NormalArguments(
            out=out.data_ptr(),
            x=x.data_ptr(),
            keys=keys.data_ptr(),
            images=len(x),
            pixels=x[0].numel(),
            draws=draw.data_ptr(),
            draw_rows=len(draw),
            sigmas=sigma.data_ptr(),
            sigma_rows=len(sigma),
            is_double=x.dtype == torch.float64,
        )
        native.launch("add_normal", x, arguments)
    return out


OPERATION = Operation("add_normal", torch_form, fits, kernel, weighted=False, triton="normal", gradient=gradient)


def add_normal(x: Tensor, keys: Tensor, draw: int | Tensor, sigma: Number, *, backend: str | None = None) -> Tensor:
    """x + sigma eps, where eps of image n is a function of (keys[n], draw, position) and standard normal.

    Philox4x32-10 and Box-Muller in float32; equal on all backends but for the last digits. Of complex numbers the real
    and the imaginary part have variance 1/2.

    Args:
        x: [B, ...], float32, float64 or complex.
        keys: [B] int64, not negative, of `lmaps_fast.noise.keys`.
        draw: which of an image's draws, from 0: a number for all images, or int64 [1 or B].
        sigma: standard deviation: a number for all images, or [1 or B].
        backend: see `use_backend`; default: the quickest that can run.

    Returns: a tensor like x. Its gradient is that with respect to x.
    Errors: InputError for tensors that do not fit together.
    """
    number, level = column(draw, torch.int64, x.device), column(sigma, torch.float64, x.device)
    if x.is_complex():
        pairs = torch.view_as_real(x.resolve_conj())
        return torch.view_as_complex(OPERATION(backend, pairs.contiguous(), keys, number, level * math.sqrt(0.5)))
    return OPERATION(backend, x.contiguous(), keys, number, level)


def normal(keys: Tensor, shape: Sequence[int], draw: int | Tensor = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers [B, *shape], those that `add_normal` adds.

    Args:
        keys: [B] int64, of `lmaps_fast.noise.keys`.
        shape: of one image, without the batch.
        draw: which of an image's draws, from 0; default 0.
        dtype: float32 (default), float64 or complex.
    """
    return add_normal(torch.zeros(len(keys), *shape, dtype=dtype, device=keys.device), keys, draw, 1.0)
