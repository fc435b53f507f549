"""Image quality, by the protocol of DAPS: images to [0, 1], clipped."""

import torch
from torch import Tensor


def psnr(x: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each image, [B], of [B, C, H, W] in [-1, 1]: data range 1 after clipping."""
    a, b = ((image / 2 + 0.5).clamp(0, 1) for image in (x, reference))
    return -10 * torch.log10((a - b).square().flatten(1).mean(1))
