"""FFDNet-colour, a denoiser for known noise up to 75/255, as a teacher."""

import os

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmaps_fast.denoisers.state import load_exactly, read_state

WIDTH, LAYERS = 96, 12
# The noise levels it is trusted at, on [-1, 1]: the upper one is 75/255 on [0, 1], where its training ended. Below
# 10/255 a photograph itself is a target with little spread, and the teacher would only add its own faults.
LEAST, MOST = 0.08, 0.588


class FFDNet(nn.Module):
    """E[x0 | y] of y = x0 + sigma * noise, RGB images [B, 3, H, W] in [-1, 1] of even sides; sigma: [B].

    Twelve convolutions 3x3 of 96 channels with ReLU between them, on the 2x2 pixel-unshuffled image in [0, 1] and, as a
    thirteenth channel, the noise level on that scale, sigma / 2. The names of its parts are the keys of the checkpoint.

    Source: Zhang, Zuo, Zhang, "FFDNet", IEEE TIP 2018.
    """

    def __init__(self) -> None:
        super().__init__()
        widths = [13, *[WIDTH] * (LAYERS - 1), 12]
        layers: list[nn.Module] = []
        for i in range(LAYERS):
            layers += [nn.Conv2d(widths[i], widths[i + 1], 3, padding=1), nn.ReLU()]
        self.model = nn.Sequential(*layers[:-1])

    def forward(self, y: Tensor, sigma: Tensor) -> Tensor:
        pixels = F.pixel_unshuffle(y / 2 + 0.5, 2)
        level = (sigma / 2).view(-1, 1, 1, 1).expand(-1, 1, *pixels.shape[2:])
        features = torch.cat([pixels, level], 1).contiguous(memory_format=torch.channels_last)
        return F.pixel_shuffle(self.model(features), 2) * 2 - 1


def load(path: str | os.PathLike, device: str | torch.device = "cpu") -> FFDNet:
    """FFDNet-colour from its checkpoint, ffdnet_color.pth (MIT licence), which is not allowed to run code.

    Raises InputError for a file that is missing, damaged or hostile, and, naming what differs, for another network's.
    """
    teacher = FFDNet()
    load_exactly(teacher, read_state(path), path)
    return teacher.requires_grad_(False).eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
