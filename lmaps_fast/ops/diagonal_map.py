"""Local MAP where A^T A is diagonal over pixels: x = D + phi(s) (1 - lam) k2 (b - s D)."""

from torch import Tensor

from lmaps_fast.errors import InputError
from lmaps_fast.ops import checks, native
from lmaps_fast.ops.operation import Operation
from lmaps_fast.weights import AnyWeights, WeightTable, phi, table


def torch_form(D: Tensor, b: Tensor, s: Tensor, weights: Tensor, most: int) -> Tensor:
    known = WeightTable(weights, most)
    return D + phi(s, known) * known.columns(D)[1] * (b - s * D)


def gradient(arguments: list, grad: Tensor) -> tuple[Tensor, Tensor]:
    D, _, s, weights, most = arguments
    known = WeightTable(weights, most)
    gain = phi(s, known) * known.columns(D)[1]
    return (1 - gain * s) * grad, gain * grad


def fits(D: Tensor, b: Tensor, s: Tensor) -> None:
    checks.alike("D", D, b=b)
    checks.same_shape("b", b, D)
    shape, row = D.shape, s.shape[1:]
    if len(shape) < 3 or row not in (shape[1:], (1, *shape[2:])):
        raise InputError(f"s has shape {list(s.shape)}: D of shape {list(shape)} needs [1 or B, 1 or C, *spatial]")
    checks.rows("s", s, row, D, D.dtype)


def kernel(D: Tensor, b: Tensor, s: Tensor, weights: Tensor, most: int) -> Tensor:
    return native.pointwise("diagonal_map", D, b, weights, s)


OPERATION = Operation("diagonal_map", torch_form, fits, kernel, triton="pointwise", gradient=gradient)


def diagonal_map(D: Tensor, b: Tensor, s: Tensor, weights: AnyWeights, *, backend: str | None = None) -> Tensor:
    """Local MAP where A^T A is diagonal over pixels: x = D + phi(s) (1 - lam) k2 (b - s D).

    Args:
        D: images to start from, [B, C, *spatial], float32 or float64.
        b: A^T y, as D; for a mask m of zeros and ones m y.
        s: the diagonal of A^T A, [1 or B, 1 or C, *spatial]; for a mask m of zeros and ones m.
        weights: one `Weights`, or one for each image.
        backend: see `use_backend`; default: the quickest that can run.

    Returns: x, like D. Its gradient is that with respect to D and b.
    Errors: InputError for tensors that do not fit together.
    """
    known = table(weights, D.device)
    return OPERATION(backend, D.contiguous(), b.contiguous(), s.contiguous(), known.values, known.most)
