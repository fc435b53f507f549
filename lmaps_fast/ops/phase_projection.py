"""The complex numbers of the phases of X and the magnitudes y: y X / |X|, 0 where X is 0."""

import torch
from torch import Tensor

from lmaps_fast.errors import InputError
from lmaps_fast.ops import checks, native
from lmaps_fast.ops.operation import Operation


def torch_form(X: Tensor, y: Tensor) -> Tensor:
    return y[..., 0] * X.sgn()


def gradient(arguments: list, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Along X the result does not change; across X it turns, by y / |X| times the move."""
    X, y = arguments
    direction, size = X.sgn(), X.abs()
    along = (direction.conj() * grad).real
    across = (grad - along * direction) * torch.where(size == 0, 0, y[..., 0] / size)
    return across, torch.stack((along, torch.zeros_like(along)), -1)


def fits(X: Tensor, y: Tensor) -> None:
    if not X.is_complex():
        raise InputError(f"X is {X.dtype}: it must be complex")
    pairs = torch.view_as_real(X)
    checks.alike("X", pairs, y=y)
    checks.same_shape("y", y, pairs, "the real view of X")


def kernel(X: Tensor, y: Tensor) -> Tensor:
    return torch.view_as_complex(native.pointwise("phase_projection", torch.view_as_real(X), y))


OPERATION = Operation(
    "phase_projection", torch_form, fits, kernel, weighted=False, triton="pointwise", gradient=gradient
)


def phase_projection(X: Tensor, y: Tensor, *, backend: str | None = None) -> Tensor:
    """The complex numbers of the phases of X and the magnitudes y: y X / |X|, 0 where X is 0.

    Args:
        X: complex, [B, ...].
        y: magnitudes, [*X.shape, 2], each twice (`y[..., None].expand(..., 2)`).
        backend: see `use_backend`; default: the quickest that can run.

    Returns: a complex tensor like X. Its gradient is that with respect to X and y (of a pair the first counts).
    Errors: InputError for tensors that do not fit together.
    """
    return OPERATION(backend, X.resolve_conj().contiguous(), y.contiguous())
