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
    image_like: bool = False,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Operator:
    """The operator of any callable; `operator.check_adjoint()` compares A and its adjoint.

    Args:
        A: maps [B, C, *spatial] in [-1, 1] to [B, ...], real or complex.
        shape: (C, *spatial) of the images.
        adjoint: A^T, [B, ...] to [B, C, *spatial] (its real part counts), which makes A linear; default: by autograd.
        linear: whether A is linear, so that its K steps collapse (`Krylov`); default: if there is an adjoint.
        gradient: of an A that is not linear, (x, y) to A'(x)^T (A(x) - y) or a surrogate of it; default: by autograd.
        image_like: whether y looks like the image, so that it can be shown beside it and be started from; default: no.
        dtype, device: of the images; default float32, "cpu".

    Errors: InputError if A does not keep the batch, or returns values that are not finite.
    """
    if gradient is not None and (linear or adjoint is not None):
        raise InputError("gradient belongs to an A that is not linear: leave it out, or leave out linear and adjoint")
    if linear or adjoint is not None:
        return OwnLinear(A, adjoint, shape, image_like, dtype, device)
    return OwnNonlinear(A, gradient, shape, image_like, dtype, device)


def checked(y: object) -> Tensor:
    if not isinstance(y, Tensor):
        raise InputError(f"A returned {type(y).__name__}: it must return a tensor [B, ...]")
    if not torch.isfinite(y).all():
        raise InputError("A returned NaN or infinite values: keep it finite for images in and around [-1, 1]")
    return y


def measured(operator: Operator) -> tuple[int, ...]:
    """The shape of a measurement without its batch, from a measurement of two grey images."""
    with torch.no_grad():
        y = operator.forward(torch.zeros(2, *operator.shape, dtype=operator.dtype, device=operator.device))
    if y.dim() == 0 or len(y) != 2:
        raise InputError(f"A maps two images to the shape {list(y.shape)}: it must map [B, C, H, W] to [B, ...]")
    return tuple(y.shape[1:])


class OwnLinear(Krylov):
    """A linear callable, with its adjoint or one found by autograd."""

    name = "the operator of a callable"

    def __init__(
        self,
        A: Map,
        adjoint: Map | None,
        shape: Sequence[int],
        image_like: bool,
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> None:
        super().__init__(shape, dtype, device)
        self.A, self.transpose, self.image_like = A, adjoint, image_like
        self.measurement_shape = measured(self)

    def forward(self, x: Tensor) -> Tensor:
        return checked(self.A(x))

    def adjoint(self, r: Tensor) -> Tensor:
        if self.transpose is not None:
            back = checked(self.transpose(r))
            return back.real if back.is_complex() else back
        with torch.inference_mode(False), torch.enable_grad():
            x = torch.zeros(len(r), *self.shape, dtype=self.dtype, device=r.device, requires_grad=True)
            (gradient,) = torch.autograd.grad(self.linear(x), x, r)
        return gradient


class OwnNonlinear(Autograd):
    """A callable with its gradient by autograd, or a surrogate of it."""

    name = "the operator of a callable"

    def __init__(
        self,
        A: Map,
        gradient: Callable[[Tensor, Tensor], Tensor] | None,
        shape: Sequence[int],
        image_like: bool,
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> None:
        super().__init__(shape, dtype, device)
        self.A, self.surrogate, self.image_like = A, gradient, image_like
        self.measurement_shape = measured(self)

    def forward(self, x: Tensor) -> Tensor:
        return checked(self.A(x))

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        return super().gradient(x, y) if self.surrogate is None else self.surrogate(x, y)
