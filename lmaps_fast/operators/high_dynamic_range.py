"""High dynamic range: y = clip(2 x, -1, 1) + noise."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from lmaps_fast.errors import InputError
from lmaps_fast.operators.structures import Pixelwise
from lmaps_fast.ops import PixelMap
from lmaps_fast.presets import Preset

# The slope of the surrogate Jacobian inside and outside the clip, in units of the gain; None stands for 1 / gain.
SURROGATES = {"slope": (1.0, 1.0), "autograd": (1.0, 0.0), "identity": (None, None)}


class HighDynamicRange(Pixelwise):
    """A(x) = clip(gain x, -1, 1): bright and dark parts are lost. Protocol of DAPS with gain = 2.

    Args:
        shape: (C, *spatial) of the images.
        gain: brightness before the clip, positive; default 2.
        surrogate: the Jacobian that the gradient takes. "slope" (default): gain everywhere, so that clipped pixels move
            too; "autograd": 0 where the clip holds; "identity": 1 everywhere.
        dtype, device: of the images; default float32, "cpu".

    Errors: InputError for another surrogate, and a gain that is not positive.
    """

    name = "high_dynamic_range"
    image_like = True
    exact = frozenset({"parameters"})
    presets: ClassVar = {
        "paper": Preset(200, 100, 0.04, 0.2, 10),
        "natural": Preset(20, 100, 0.1, 0.2, 2.5, sigma_max=0.15, sigma_min=0.03, start="measurement"),
    }

    parameters: Tensor  # gain, slope inside and outside the clip, [1 or B, 3]

    def __init__(
        self,
        shape: Sequence[int],
        gain: float = 2.0,
        surrogate: str = "slope",
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(shape, dtype, device)
        if surrogate not in SURROGATES:
            raise InputError(f"unknown surrogate {surrogate!r}: choose one of {', '.join(SURROGATES)}")
        if not 0 < gain < float("inf"):
            raise InputError(f"gain must be positive, not {gain}")
        inside, outside = (1.0 if s is None else gain * s for s in SURROGATES[surrogate])
        self.number("parameters", torch.tensor([[gain, inside, outside]], dtype=torch.float64), torch.float64)

    def columns(self, x: Tensor) -> tuple[Tensor, ...]:
        """gain, inside and outside, to be broadcast with x."""
        return self.parameters.to(x.dtype).view(-1, 3, *[1] * (x.dim() - 1)).unbind(1)

    def forward(self, x: Tensor) -> Tensor:
        return (self.columns(x)[0] * x).clamp(-1, 1)

    def first_guess(self, y: Tensor) -> Tensor:
        return y / self.columns(y)[0]

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        gain, inside, outside = self.columns(x)
        clipped = (gain * x).clamp(-1, 1)
        return torch.where(clipped != gain * x, outside, inside) * (clipped - y)

    def largest_eigenvalues(self) -> list[float]:
        """Inside the clip a step of lr multiplies x by 1 - lr (lam + c gain inside)."""
        return (self.parameters[:, 0] * self.parameters[:, 1]).tolist()

    def pixel_map(self, y: Tensor) -> PixelMap:
        """K scalar steps per pixel, in registers."""
        return PixelMap("clip_map", y, (self.parameters,))
