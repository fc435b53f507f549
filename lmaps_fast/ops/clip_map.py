"""Local MAP of A(x) = clip(gain x, -1, 1) with a surrogate slope: K steps of each pixel on its own.

x <- x - lr (lam (x - D) + (1 - lam) k2 slope (A(x) - y)), slope = inside where |gain x| <= 1, else outside
"""

import torch
from torch import Tensor

from lmaps_fast.ops import checks, native
from lmaps_fast.ops.numbers import Number, per_image
from lmaps_fast.ops.operation import Operation
from lmaps_fast.weights import AnyWeights, WeightTable, table


def columns(D: Tensor, parameters: Tensor) -> tuple[Tensor, ...]:
    """gain, inside and outside, to be broadcast with D."""
    return parameters.to(D.dtype).view(-1, 3, *[1] * (D.dim() - 1)).unbind(1)


def torch_form(D: Tensor, y: Tensor, parameters: Tensor, weights: Tensor, most: int) -> Tensor:
    gain, inside, outside = columns(D, parameters)
    lam, c, lr, K = WeightTable(weights, most).columns(D)
    x = D
    for k in range(most):
        clipped = (gain * x).clamp(-1, 1)
        slope = torch.where(clipped != gain * x, outside, inside)
        following = x - lr * (lam * (x - D) + c * slope * (clipped - y))
        x = following if len(K) == 1 else torch.where(k < K, following, x)
    return x


def gradient(arguments: list, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Each pixel of x is a function of its own D and y: their derivatives are carried along the K steps."""
    D, y, parameters, weights, most = arguments
    gain, inside, outside = columns(D, parameters)
    lam, c, lr, K = WeightTable(weights, most).columns(D)
    x, dx_dD, dx_dy = D, torch.ones_like(D), torch.zeros_like(D)
    for k in range(most):
        clipped = (gain * x).clamp(-1, 1)
        clips = clipped != gain * x
        slope = torch.where(clips, outside, inside)
        keep = 1 - lr * lam - lr * c * slope * torch.where(clips, 0, gain)
        taken = k < K
        dx_dD = torch.where(taken, keep * dx_dD + lr * lam, dx_dD)
        dx_dy = torch.where(taken, keep * dx_dy + lr * c * slope, dx_dy)
        x = torch.where(taken, x - lr * (lam * (x - D) + c * slope * (clipped - y)), x)
    return dx_dD * grad, dx_dy * grad


def fits(D: Tensor, y: Tensor, parameters: Tensor) -> None:
    checks.alike("D", D, y=y)
    checks.same_shape("y", y, D)
    checks.rows("parameters", parameters, (3,), D)


def kernel(D: Tensor, y: Tensor, parameters: Tensor, weights: Tensor, most: int) -> Tensor:
    return native.pointwise("clip_map", D, y, weights, parameters=parameters)


OPERATION = Operation("clip_map", torch_form, fits, kernel, triton="pointwise", gradient=gradient)


def clip_map(
    D: Tensor,
    y: Tensor,
    gain: Number,
    inside: Number,
    outside: Number,
    weights: AnyWeights,
    *,
    backend: str | None = None,
) -> Tensor:
    """Local MAP of A(x) = clip(gain x, -1, 1) with a surrogate slope: K steps of each pixel on its own.

        x <- x - lr (lam (x - D) + (1 - lam) k2 slope (A(x) - y)), slope = inside where |gain x| <= 1, else outside

    Args:
        D: images to start from, [B, ...], float32 or float64.
        y: measurements, as D.
        gain, inside, outside: a number for all images, or [1 or B].
        weights: one `Weights`, or one for each image.
        backend: see `use_backend`; default: the quickest that can run.

    Returns: x, like D. Its gradient is that of the K steps with respect to D and y.
    Errors: InputError for tensors that do not fit together.
    """
    known, parameters = table(weights, D.device), per_image(D, gain, inside, outside)
    return OPERATION(backend, D.contiguous(), y.contiguous(), parameters, known.values, known.most)
