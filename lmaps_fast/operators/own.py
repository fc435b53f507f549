"""Operators of a user's own: any callable."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lmaps_fast.errors import InputError
from lmaps_fast.operators.base import Operator
from lmaps_fast.operators.structures import Autograd, Krylov

Map = Callable[[Tensor], Tensor]


def from_callable(
    A: Map,
    shape: Sequence[int],
    adjoint: Map | None = None,
    linear: bool = False,
    gradient: Callable[[Tensor, Tensor], Tensor] | None = None,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> Operator:
    """The operator of any callable A: [B, C, H, W] in [-1, 1] to [B, ...], real or complex, for images of `shape`.

    linear: A is linear, so that its K steps collapse (`Krylov`). adjoint: A^T, [B, ...] to [B, C, H, W] (its real part
    counts), which makes it linear too; found by autograd unless given. Not linear: K steps with the gradient
    A'(x)^T (A(x) - y) by autograd, or with `gradient(x, y)`, a surrogate of it. Raises InputError if A does not keep
    the batch, or returns values that are not finite; `operator.check_adjoint()` compares A and its adjoint.
    """
    if gradient is not None and (linear or adjoint is not None):
        raise InputError("gradient belongs to an A that is not linear: leave it out, or leave out linear and adjoint")
    if linear or adjoint is not None:
        return OwnLinear(A, adjoint, shape, dtype, device)
    return OwnNonlinear(A, gradient, shape, dtype, device)


def checked(y: object) -> Tensor:
    if not isinstance(y, Tensor):
        raise InputError(f"A returned {type(y).__name__}: it must return a tensor [B, ...]")
    if not torch.isfinite(y).all():
        raise InputError("A returned NaN or infinite values: keep it finite for images in and around [-1, 1]")
    return y


def measured(operator: Operator) -> tuple[int, ...]:
    """The shape of a measurement without its batch, from a measurement of two grey images."""
    with torch.no_grad():
        y = operator(torch.zeros(2, *operator.shape, dtype=operator.dtype, device=operator.device))
    if y.dim() == 0 or len(y) != 2:
        raise InputError(f"A maps two images to the shape {list(y.shape)}: it must map [B, C, H, W] to [B, ...]")
    return tuple(y.shape[1:])


class OwnLinear(Krylov):
    """A linear callable, with its adjoint or one found by autograd."""

    name = "the operator of a callable"

    def __init__(self, A: Map, adjoint: Map | None, shape: Sequence[int], dtype: torch.dtype, device: str) -> None:
        super().__init__(shape, dtype, device)
        self.A, self.transpose = A, adjoint
        self.measurement_shape = measured(self)

    def forward(self, x: Tensor) -> Tensor:
        return checked(self.A(x))

    def adjoint(self, r: Tensor) -> Tensor:
        if self.transpose is not None:
            back = checked(self.transpose(r))
            return back.real if back.is_complex() else back
        with torch.enable_grad():
            x = torch.zeros(len(r), *self.shape, dtype=self.dtype, device=r.device, requires_grad=True)
            (gradient,) = torch.autograd.grad(self(x), x, r)
        return gradient


class OwnNonlinear(Autograd):
    """A callable with its gradient by autograd, or a surrogate of it."""

    name = "the operator of a callable"

    def __init__(
        self,
        A: Map,
        gradient: Callable[[Tensor, Tensor], Tensor] | None,
        shape: Sequence[int],
        dtype: torch.dtype,
        device: str,
    ) -> None:
        super().__init__(shape, dtype, device)
        self.A, self.surrogate = A, gradient
        self.measurement_shape = measured(self)

    def forward(self, x: Tensor) -> Tensor:
        return checked(self.A(x))

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        return super().gradient(x, y) if self.surrogate is None else self.surrogate(x, y)
