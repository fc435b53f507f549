"""The lossy half of JPEG as tensors: colour transform, chroma subsampling, 8x8 DCT and quantization.

    Y = .299 R + .587 G + .114 B - 128, Cb and Cr without an offset (the +128 and -128 cancel); levels 0..255;
    u = T block T^t with the orthonormal DCT-II T; u -> q round(u / q).

The inverse colour matrix is the exact one, not the rounded one of the protocol, which flips a quantizer index now and
then and would couple the coefficients.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lmaps_fast.errors import InputError

TO_YCBCR = ((0.299, 0.587, 0.114), (-0.1687, -0.3313, 0.5), (0.5, -0.4187, -0.0813))

# Tables K.1 and K.2 of ITU-T T.81 (IJG), row-major.
LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99, 99, 99, 99, 99, 99, 99, 99),) * 4,
)
SUBSAMPLINGS = {"4:4:4": (1, 1), "4:2:2": (1, 2), "4:2:0": (2, 2)}


def quality_tables(quality: int) -> Tensor:
    """Luma and chroma quantization steps of IJG quality 1..100, [2, 8, 8]."""
    if not 1 <= quality <= 100:
        raise InputError(f"quality must be from 1 to 100, not {quality}")
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    base = torch.tensor((LUMA, CHROMA), dtype=torch.float64)
    return ((base * scale + 50) / 100).floor().clamp(1, 255)


def _dct() -> Tensor:
    k, j = torch.meshgrid(torch.arange(8.0, dtype=torch.float64), torch.arange(8.0, dtype=torch.float64), indexing="ij")
    matrix = 0.5 * torch.cos((2 * j + 1) * k * math.pi / 16)
    matrix[0] /= math.sqrt(2)
    return matrix


class JpegCodec(torch.nn.Module):
    """codec(x) is what x looks like after JPEG, without rounding or clamping of pixels. x: [B, C, H, W] in [-1, 1].

    tables: [2, 8, 8] steps of luma and chroma, 1..65535. subsampling: "4:4:4", "4:2:2" or "4:2:0". average: a chroma
    sample is the mean of its pixels, as in libjpeg; otherwise their first, as in the protocol. Sizes that do not fill
    their last minimum coded unit (MCU) repeat the last row and column.
    """

    tables: Tensor
    matrices: Tensor
    dct: Tensor

    def __init__(self, channels: int, tables: Tensor, subsampling: str, average: bool) -> None:
        super().__init__()
        if subsampling not in SUBSAMPLINGS:
            raise InputError(f"unknown subsampling {subsampling!r}: choose one of {', '.join(SUBSAMPLINGS)}")
        if tables.shape != (2, 8, 8) or not ((tables >= 1) & (tables <= 65535)).all():
            raise InputError("quantization tables must be two of 8x8 steps (luma, chroma), from 1 to 65535")
        self.channels, self.average = channels, average
        self.subsampling = SUBSAMPLINGS[subsampling] if channels == 3 else (1, 1)
        forward = torch.tensor(TO_YCBCR, dtype=torch.float64)
        # Constants stay on the CPU in float64; `constants` keeps a copy for each dtype and device that is met.
        self.tables = tables.double().cpu()
        self.matrices = torch.stack((forward, torch.linalg.inv(forward)))
        self.dct = _dct()
        self._copies: dict[tuple[torch.dtype, torch.device], tuple[Tensor, Tensor, Tensor]] = {}

    def constants(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """tables, matrices and dct in the dtype and on the device of x."""
        key = (x.dtype, x.device)
        if key not in self._copies:
            a, b, c = (t.to(x.device, x.dtype) for t in (self.tables, self.matrices, self.dct))
            self._copies[key] = (a, b, c)
        return self._copies[key]

    def steps(self, x: Tensor) -> list[Tensor]:
        """The quantization steps [8, 8] of each plane, in the dtype of x."""
        tables, _, _ = self.constants(x)
        return [tables[0], tables[1], tables[1]][: self.channels]

    def whole(self, shape: Sequence[int]) -> tuple[int, int]:
        """Height and width of the part of an image that whole MCUs fill."""
        height, width = (8 * s for s in self.subsampling)
        return shape[-2] // height * height, shape[-1] // width * width

    def analyse(self, x: Tensor) -> list[Tensor]:
        """DCT coefficients of each plane, [B, h, w, 8, 8] with h x w blocks. x fills whole MCUs."""
        _, matrices, dct = self.constants(x)
        planes = 127.5 * x
        if self.channels == 3:
            planes = torch.einsum("ij,bjhw->bihw", matrices[0], planes)
        sub_h, sub_w = self.subsampling
        chroma = planes[:, 1:]
        if chroma.shape[1]:
            chroma = F.avg_pool2d(chroma, self.subsampling) if self.average else chroma[..., ::sub_h, ::sub_w]
        return [
            dct @ plane.unflatten(2, (-1, 8)).unflatten(1, (-1, 8)).transpose(2, 3) @ dct.T
            for plane in (planes[:, 0] - 0.5, *chroma.unbind(1))
        ]

    def from_planes(self, planes: Tensor) -> Tensor:
        """Pixels in [-1, 1] of Y (0..255) and, centred at 0, Cb and Cr: [B, C, H, W] both."""
        _, matrices, _ = self.constants(planes)
        if self.channels == 1:
            return planes / 127.5 - 1
        return torch.einsum("ij,bjhw->bihw", matrices[1], planes) / 127.5 - 1

    def synthesise(self, coefficients: Sequence[Tensor], offset: float = 0.0) -> Tensor:
        """Pixels of coefficients, linear but for `offset`, which is added to luma (in levels)."""
        _, matrices, dct = self.constants(coefficients[0])
        blocks = [dct.T @ u @ dct for u in coefficients]
        luma, *chroma = (block.transpose(2, 3).flatten(3, 4).flatten(1, 2) for block in blocks)
        sub_h, sub_w = self.subsampling
        full = [plane.repeat_interleave(sub_h, 1).repeat_interleave(sub_w, 2) for plane in chroma]
        planes = torch.stack([luma + offset, *full], 1)
        if self.channels == 3:
            planes = torch.einsum("ij,bjhw->bihw", matrices[1], planes)
        return planes / 127.5

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        mcu_h, mcu_w = (8 * s for s in self.subsampling)
        padded = F.pad(x, (0, -width % mcu_w, 0, -height % mcu_h), mode="replicate")
        quantized = [q * (u / q).round() for u, q in zip(self.analyse(padded), self.steps(x), strict=True)]
        return self.synthesise(quantized, offset=0.5)[..., :height, :width]
