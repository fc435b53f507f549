"""High dynamic range: y = clip(2 x, -1, 1) + noise."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lmaps_fast import ops
from lmaps_fast.errors import InputError
from lmaps_fast.local_map import Weights
from lmaps_fast.operators.base import Operator

# The slope of the surrogate Jacobian inside and outside the clip, in units of the gain; None stands for 1 / gain.
SURROGATES = {"slope": (1.0, 1.0), "autograd": (1.0, 0.0), "identity": (None, None)}


class HighDynamicRange(Operator):
    """A(x) = clip(gain x, -1, 1): bright and dark parts are lost. Protocol of DAPS with gain = 2.

    surrogate: the Jacobian that the gradient takes. "slope" (default): gain everywhere, so that clipped pixels move
    too; "autograd": 0 where the clip holds; "identity": 1 everywhere.
    """

    name = "high_dynamic_range"

    def __init__(
        self,
        shape: Sequence[int],
        gain: float = 2.0,
        surrogate: str = "slope",
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
    ) -> None:
        super().__init__(shape, dtype, device)
        if surrogate not in SURROGATES:
            raise InputError(f"unknown surrogate {surrogate!r}: choose one of {', '.join(SURROGATES)}")
        if not 0 < gain < float("inf"):
            raise InputError(f"gain must be positive, not {gain}")
        self.gain = gain
        self.inside, self.outside = (1.0 if s is None else gain * s for s in SURROGATES[surrogate])

    def forward(self, x: Tensor) -> Tensor:
        return (self.gain * x).clamp(-1, 1)

    def first_guess(self, y: Tensor) -> Tensor:
        return y / self.gain

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        clipped = self(x)
        clips = (clipped != self.gain * x).to(x.dtype)
        return (self.inside + (self.outside - self.inside) * clips) * (clipped - y)

    def local_map(self, D: Tensor, y: Tensor, weights: Weights) -> Tensor:
        """K scalar steps per pixel, in registers."""
        return ops.clip_map(D, y, self.gain, self.inside, self.outside, weights)

    def pixel_map(self, y: Tensor) -> ops.PixelMap:
        return ops.PixelMap("clip_map", y, parameters=(self.gain, self.inside, self.outside))
