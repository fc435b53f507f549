"""Nonlinear deblurring: y = clamp(2 F((x + 1)/2, code) - 1, -1, 1) + noise, with the blur network F of BKSE."""

import copy
import hashlib
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from lmaps_fast.door import without_autocast
from lmaps_fast.errors import InputError
from lmaps_fast.operators import bkse
from lmaps_fast.operators.structures.autograd import Autograd
from lmaps_fast.presets import Preset


@dataclass(frozen=True)
class Fixed:
    """A network, equal to another of the same source: a seed, or a file by its SHA-256."""

    module: bkse.KernelWizard = field(compare=False, repr=False)
    source: str


class NonlinearDeblurring(Autograd):
    """The blur of a camera in motion as a network learnt it (BKSE, arXiv 2104.00317), for one fixed blur code.

    The code is the protocol's, numpy's RandomState(0).randn(1, 512, 2, 2) * 1.2, and belongs to 256x256 images; for
    other sizes it is resized as `bkse.KernelWizard.code_term` tells. Sizes that the strides of the network do not
    divide are reflected at the right and bottom border for the call. A grey image is blurred as three equal channels,
    of which the mean is taken.

    Args:
        shape: (1 or 3, H, W) of the images, at least 5x5 pixels.
        weights: the public file GOPRO_wVAE.pth, see `bkse.load`. Without it (default) the weights are drawn from `seed`
            and a UserWarning says so: a call costs the same, but what comes out is no blur of any camera.
        seed: of the weights where there is no file; default 0.
        dtype, device: of the images; default float32, "cpu".

    Errors: InputError for another shape and for a file that does not hold the network.
    """

    name = "nonlinear_deblurring"
    image_like = True
    # The real network is not at hand to tune on: the paper's weights with fewer, longer steps.
    presets: ClassVar = {
        "paper": Preset(200, 100, 0.02, 0.05, 1),
        "natural": Preset(20, 10, 0.2, 0.05, 1, sigma_max=1.0, sigma_min=0.03, start="measurement"),
    }

    code_term: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        weights: str | os.PathLike | None = None,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(shape, dtype, device)
        if shape[0] not in (1, 3) or min(shape[1:]) < bkse.SMALLEST_SIDE:
            side = bkse.SMALLEST_SIDE
            raise InputError(f"{self.name} needs 1 or 3 channels and at least {side}x{side} pixels, not {tuple(shape)}")
        if weights is None:
            warnings.warn(
                "nonlinear_deblurring without weights uses a random network: times are those of the real one, images "
                "mean nothing; give the file GOPRO_wVAE.pth of github.com/VinAIResearch/blur-kernel-space-exploring",
                stacklevel=2,
            )
        network = bkse.random(seed) if weights is None else bkse.load(weights)
        # channels_last: measured 2 to 3 times quicker on CPUs than the default layout.
        network.to(self.device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        source = f"seed {seed}" if weights is None else hashlib.sha256(Path(weights).read_bytes()).hexdigest()
        self.network = Fixed(network.requires_grad_(False), source)
        code = torch.from_numpy(np.random.RandomState(0).randn(1, bkse.CODE_CHANNELS, 2, 2) * 1.2)
        with without_autocast(self.device.type):
            self.number("code_term", network.code_term(code.to(self.device, self.dtype), *self.shape[1:]))

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        other = super().to(device, dtype)
        moved = copy.deepcopy(self.network.module).to(other.device, other.dtype)
        other.network = Fixed(moved, self.network.source)
        return other

    def forward(self, x: Tensor) -> Tensor:
        rgb = x.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        with without_autocast(self.device.type):
            blurred = (2 * self.network.module((rgb + 1) / 2, self.code_term) - 1).clamp(-1, 1)
        return blurred.mean(1, keepdim=True) if x.shape[1] == 1 else blurred.contiguous()
