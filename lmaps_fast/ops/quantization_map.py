"""Local MAP of a uniform quantizer with H' = identity: K steps of each pixel on its own.

x <- x - lr (lam (x - D) + (1 - lam) k2 (Q(x) - y)),   Q(x) = 2 floor(n (x + 1) / 2 + 1/2) / n - 1
"""

import torch
from torch import Tensor

from lmaps_fast.ops import checks, native
from lmaps_fast.ops.numbers import Number, per_image
from lmaps_fast.ops.operation import Operation
from lmaps_fast.weights import AnyWeights, WeightTable, phi, table


def torch_form(D: Tensor, y: Tensor, parameters: Tensor, weights: Tensor, most: int) -> Tensor:
    lam, c, lr, K = WeightTable(weights, most).columns(D)
    half = parameters.to(D.dtype).view(-1, *[1] * (D.dim() - 1)) / 2
    v_D = half * D + (half + 0.5)
    v, offset = v_D, lr * (lam * v_D + c * (half * y + half))
    for k in range(most):
        following = (1 - lr * lam) * v + offset - lr * c * v.floor()
        v = following if len(K) == 1 else torch.where(k < K, following, v)
    return (v - (half + 0.5)) / half


def surrogate_gradient(D: Tensor, weights: WeightTable, grad: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient where the identity stands for the Jacobian of A: x = D + phi(1) (1 - lam) k2 (y - D)."""
    one = D.new_ones(len(weights.values), *[1] * (D.dim() - 1))
    gain = phi(one, weights) * weights.columns(D)[1]
    return (1 - gain) * grad, gain * grad


def gradient(arguments: list, grad: Tensor) -> tuple[Tensor, Tensor]:
    D, _, _, weights, most = arguments
    return surrogate_gradient(D, WeightTable(weights, most), grad)


def fits(D: Tensor, y: Tensor, parameters: Tensor) -> None:
    checks.alike("D", D, y=y)
    checks.same_shape("y", y, D)
    checks.rows("parameters", parameters, (1,), D)


def kernel(D: Tensor, y: Tensor, parameters: Tensor, weights: Tensor, most: int) -> Tensor:
    return native.pointwise("quantization_map", D, y, weights, parameters=parameters)


OPERATION = Operation("quantization_map", torch_form, fits, kernel, triton="pointwise", gradient=gradient)


def quantization_map(
    D: Tensor, y: Tensor, intervals: Number, weights: AnyWeights, *, backend: str | None = None
) -> Tensor:
    """Local MAP of a uniform quantizer with H' = identity: K steps of each pixel on its own.

        x <- x - lr (lam (x - D) + (1 - lam) k2 (Q(x) - y)),   Q(x) = 2 floor(n (x + 1) / 2 + 1/2) / n - 1

    In float32 a pixel on the boundary between two levels may fall to the other side than in the loop.

    Args:
        D: images to start from, [B, ...], float32 or float64.
        y: measurements, as D.
        intervals: n, the intervals between -1 and 1: a number for all images, or [1 or B].
        weights: one `Weights`, or one for each image.
        backend: see `use_backend`; default: the quickest that can run.

    Returns: x, like D. Its gradient has the identity for the Jacobian of Q.
    Errors: InputError for tensors that do not fit together.
    """
    known, parameters = table(weights, D.device), per_image(D, intervals)
    return OPERATION(backend, D.contiguous(), y.contiguous(), parameters, known.values, known.most)
