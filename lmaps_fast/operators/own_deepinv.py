"""Operators from deepinv (https://deepinv.github.io), whose images are in [0, 1]."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lmaps_fast.errors import InputError
from lmaps_fast.operators.base import Operator
from lmaps_fast.operators.own import checked, measured
from lmaps_fast.operators.structures import Autograd, Krylov


def from_deepinv(
    physics: Any, shape: Sequence[int], dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Operator:
    """The operator of a deepinv physics: A(x) = physics.A(x / 2 + 1/2) for x in [-1, 1].

    y is what the physics itself makes of an image in [0, 1], so it is not shown beside the restored image. A
    LinearPhysics (one with A_adjoint) collapses; another takes K steps by autograd.

    Args:
        physics: on `device`, with its parameters set; its noise model is not used.
        shape: (C, *spatial) of the images.
        dtype, device: of the images; default float32, "cpu".

    Errors: InputError for an object that is no physics, and for one that does not keep the batch.
    """
    if not callable(getattr(physics, "A", None)):
        raise InputError(f"{type(physics).__name__} has no A: give a deepinv physics such as deepinv.physics.Blur(...)")
    kind = DeepinvLinear if callable(getattr(physics, "A_adjoint", None)) else DeepinvNonlinear
    return kind(physics, shape, dtype, device)


class Physics(Operator):
    """What both kinds share: A(x) = physics.A(x / 2 + 1/2)."""

    name = "the deepinv physics"

    def __init__(self, physics: Any, shape: Sequence[int], dtype: torch.dtype, device: torch.device | str) -> None:
        super().__init__(shape, dtype, device)
        self.physics = physics
        self.measurement_shape = measured(self)

    def forward(self, x: Tensor) -> Tensor:
        return checked(self.physics.A(x / 2 + 0.5))


class DeepinvNonlinear(Physics, Autograd):
    """K steps with the gradient by autograd."""


class DeepinvLinear(Physics, Krylov):
    """Affine in x, since grey is 0 here and 1/2 there: A(x) = physics.A(x / 2) + physics.A(1/2)."""

    def linear(self, x: Tensor) -> Tensor:
        return checked(self.physics.A(x / 2))

    def adjoint(self, r: Tensor) -> Tensor:
        back = checked(self.physics.A_adjoint(r)) / 2
        return back.real if back.is_complex() else back
