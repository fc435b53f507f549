"""Operators from deepinv (https://deepinv.github.io), whose images are in [0, 1]."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lmaps_fast.errors import InputError
from lmaps_fast.operators.base import Operator
from lmaps_fast.operators.own import OwnLinear, from_callable


def from_deepinv(
    physics: Any, shape: Sequence[int], dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> Operator:
    """The operator of a deepinv physics: A(x) = physics.A(x / 2 + 1/2) for x: [B, C, H, W] in [-1, 1].

    y is what the physics itself makes of an image in [0, 1]. A LinearPhysics (one with A_adjoint) collapses; another
    takes K steps by autograd. physics: on `device`, with its parameters set; its noise model is not used.
    """
    if not callable(getattr(physics, "A", None)):
        raise InputError(f"{type(physics).__name__} has no A: give a deepinv physics such as deepinv.physics.Blur(...)")
    if callable(getattr(physics, "A_adjoint", None)):
        return DeepinvLinear(physics, shape, dtype, device)
    return from_callable(lambda x: physics.A(x / 2 + 0.5), shape, dtype=dtype, device=device)


class DeepinvLinear(OwnLinear):
    """Affine in x, since grey is 0 here and 1/2 there."""

    name = "the deepinv physics"

    def __init__(self, physics: Any, shape: Sequence[int], dtype: torch.dtype, device: str) -> None:
        super().__init__(lambda x: physics.A(x / 2 + 0.5), lambda r: physics.A_adjoint(r) / 2, shape, dtype, device)
        self.physics = physics

    def normal(self, v: Tensor) -> Tensor:
        return self.adjoint(self.physics.A(v / 2))
