"""Update of the local MAP in an eigenbasis of A^T A: phi(s) (1 - lam) k2 (b - s D), to be added to D."""

from torch import Tensor

from lmaps_fast.errors import InputError
from lmaps_fast.ops import checks, native
from lmaps_fast.ops.operation import Operation
from lmaps_fast.weights import AnyWeights, WeightTable, phi, table


def between(s: Tensor, D: Tensor) -> Tensor:
    """s, [1 or B, *coefficients], with dimensions of 1 after the first, so that it broadcasts with D."""
    return s.view(len(s), *[1] * (D.dim() - s.dim()), *s.shape[1:])


def torch_form(D: Tensor, b: Tensor, s: Tensor, weights: Tensor, most: int) -> Tensor:
    known, s = WeightTable(weights, most), between(s, D)
    return phi(s, known) * known.columns(D)[1] * (b - s * D)


def gradient(arguments: list, grad: Tensor) -> tuple[Tensor, Tensor]:
    D, _, s, weights, most = arguments
    known, s = WeightTable(weights, most), between(s, D)
    gain = phi(s, known) * known.columns(D)[1]
    return -gain * s * grad, gain * grad


def fits(D: Tensor, b: Tensor, s: Tensor) -> None:
    checks.alike("D", D, b=b)
    checks.same_shape("b", b, D)
    if s.dim() < 2 or D.dim() < s.dim() or s.shape[1:] != D.shape[1 - s.dim() :]:
        raise InputError(
            f"s has shape {list(s.shape)}: D of shape {list(D.shape)} needs [1 or B, *last dimensions of D]"
        )
    checks.rows("s", s, s.shape[1:], D, D.dtype)


def kernel(D: Tensor, b: Tensor, s: Tensor, weights: Tensor, most: int) -> Tensor:
    return native.pointwise("spectral_update", D, b, weights, s[:, None])


OPERATION = Operation("spectral_update", torch_form, fits, kernel, triton="pointwise", gradient=gradient)


def spectral_update(D: Tensor, b: Tensor, s: Tensor, weights: AnyWeights, *, backend: str | None = None) -> Tensor:
    """Update of the local MAP in an eigenbasis of A^T A: phi(s) (1 - lam) k2 (b - s D), to be added to D.

    Args:
        D: coefficients of the images to start from, [B, ..., *coefficients], float32 or float64.
        b: those of A^T y, as D.
        s: the eigenvalues, [1 or B, *coefficients].
        weights: one `Weights`, or one for each image.
        backend: see `use_backend`; default: the quickest that can run.

    Returns: the update, like D. Its gradient is that with respect to D and b.
    Errors: InputError for tensors that do not fit together.
    """
    known = table(weights, D.device)
    return OPERATION(backend, D.contiguous(), b.contiguous(), s.contiguous(), known.values, known.most)
