"""The lossy half of JPEG as tensors: colour transform, chroma subsampling, 8x8 DCT and quantization.

    Y = .299 R + .587 G + .114 B - 128, Cb and Cr without an offset (the +128 and -128 cancel); levels 0..255;
    u = T block T^t with the orthonormal DCT-II T; u -> q round(u / q).

The inverse colour matrix is the exact one, not the rounded one of the protocol, which flips a quantizer index now and
then and would couple the coefficients.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from lmaps_fast.door import full_precision, product
from lmaps_fast.errors import InputError
from lmaps_fast.ops.backends import constant_in_traces

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


_FORWARD = torch.tensor(TO_YCBCR, dtype=torch.float64, device="cpu")
# 18 numbers, row-major: RGB to YCbCr, and the exact inverse.
MATRICES: tuple[float, ...] = (*_FORWARD.flatten().tolist(), *torch.linalg.inv(_FORWARD).flatten().tolist())


@constant_in_traces
def constants(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """The colour matrices [2, 3, 3] and the orthonormal DCT-II [8, 8]; kept, so that a graph may hold their address."""
    return _constants(dtype, device)


@cache
def _constants(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):  # autograd takes none that was made in inference mode
        k, j = torch.meshgrid(*[torch.arange(8, dtype=torch.float64, device="cpu")] * 2, indexing="ij")
        dct = 0.5 * torch.cos((2 * j + 1) * k * math.pi / 16)
        dct[0] /= math.sqrt(2)
        colours = torch.tensor(MATRICES, dtype=torch.float64, device="cpu").view(2, 3, 3)
        return colours.to(device, dtype), dct.to(device, dtype)


def mixed(matrix: Tensor, planes: Tensor) -> Tensor:
    """The colours [B, 3, H, W] of each pixel times a matrix [3, 3], in full precision."""
    with full_precision(planes.device.type):
        return torch.einsum("ij,bjhw->bihw", matrix, planes)


@dataclass(frozen=True)
class JpegCodec:
    """codec(x) is what x looks like after JPEG, without rounding or clamping of pixels. x: [B, C, H, W] in [-1, 1].

    channels: C, 1 or 3. tables: float32 [1 or B, 2, 8, 8], steps of luma and chroma. subsampling: rows and columns of
    pixels per chroma sample. average: a chroma sample is the mean of its pixels, as in libjpeg; otherwise their first,
    as in the protocol. Sizes that do not fill their last minimum coded unit (MCU) repeat the last row and column.
    """

    channels: int
    tables: Tensor
    subsampling: tuple[int, int]
    average: bool

    def steps(self, x: Tensor) -> list[Tensor]:
        """The quantization steps of each plane, [1 or B, 1, 1, 8, 8], in the dtype of x."""
        luma, chroma = self.tables.to(x.dtype)[:, :, None, None].unbind(1)
        return [luma, chroma, chroma][: self.channels]

    def whole(self, shape: Sequence[int]) -> tuple[int, int]:
        """Height and width of the part of an image that whole MCUs fill."""
        height, width = (8 * s for s in self.subsampling)
        return shape[-2] // height * height, shape[-1] // width * width

    def planes(self, x: Tensor) -> Tensor:
        """Levels of luma (not centred) and chroma of pixels, [B, C, H, W] both."""
        if self.channels == 1:
            return 127.5 * x
        return mixed(constants(x.dtype, x.device)[0][0], 127.5 * x)

    def pixels(self, planes: Tensor) -> Tensor:
        """The inverse of `planes`."""
        if self.channels == 3:
            planes = mixed(constants(planes.dtype, planes.device)[0][1], planes)
        return planes / 127.5

    def decimate(self, chroma: Tensor) -> Tensor:
        """The samples of planes of chroma whose sides the subsampling divides."""
        sub_h, sub_w = self.subsampling
        return F.avg_pool2d(chroma, self.subsampling) if self.average else chroma[..., ::sub_h, ::sub_w]

    def replicate(self, samples: Tensor) -> Tensor:
        """Each sample of chroma on all of its pixels."""
        sub_h, sub_w = self.subsampling
        return samples.repeat_interleave(sub_h, -2).repeat_interleave(sub_w, -1)

    def analyse(self, x: Tensor) -> list[Tensor]:
        """DCT coefficients of each plane, [B, h, w, 8, 8] with h x w blocks. x fills whole MCUs."""
        planes, (_, dct) = self.planes(x), constants(x.dtype, x.device)
        chroma = self.decimate(planes[:, 1:]).unbind(1) if self.channels == 3 else ()
        return [
            product(dct, plane.unflatten(2, (-1, 8)).unflatten(1, (-1, 8)).transpose(2, 3), dct.T)
            for plane in (planes[:, 0] - 0.5, *chroma)
        ]

    def from_planes(self, planes: Tensor) -> Tensor:
        """Pixels in [-1, 1] of Y (0..255) and, centred at 0, Cb and Cr: [B, C, H, W] both."""
        return self.pixels(planes) - 1

    def synthesise(self, coefficients: Sequence[Tensor], offset: float = 0.0) -> Tensor:
        """Pixels of coefficients, linear but for `offset`, which is added to luma (in levels)."""
        _, dct = constants(coefficients[0].dtype, coefficients[0].device)
        blocks = [product(dct.T, u, dct) for u in coefficients]
        luma, *chroma = (block.transpose(2, 3).flatten(3, 4).flatten(1, 2) for block in blocks)
        return self.pixels(torch.stack([luma + offset, *(self.replicate(plane) for plane in chroma)], 1))

    def padded(self, x: Tensor) -> Tensor:
        """x with its last row and column repeated until it fills whole MCUs."""
        height, width = (8 * s for s in self.subsampling)
        return F.pad(x, (0, -x.shape[-1] % width, 0, -x.shape[-2] % height), mode="replicate")

    def quantize(self, x: Tensor) -> Tensor:
        """codec(x) of an x that fills whole MCUs."""
        quantized = [q * (u / q).round() for u, q in zip(self.analyse(x), self.steps(x), strict=True)]
        return self.synthesise(quantized, offset=0.5)

    def __call__(self, x: Tensor) -> Tensor:
        return self.quantize(self.padded(x))[..., : x.shape[-2], : x.shape[-1]]

    def nearest(self, y: Tensor) -> Tensor:
        """y moved onto the lattice of what the codec can make: chroma that is the same on all pixels of a sample, and
        in whole MCUs multiples of the quantization steps (of those that the border cuts no nearest point is known). It
        moves what the codec made by rounding errors alone."""
        planes = self.planes(self.padded(y))
        if self.channels == 3:
            planes = torch.cat((planes[:, :1], self.replicate(self.decimate(planes[:, 1:]))), 1)
        out = self.pixels(planes)[..., : y.shape[-2], : y.shape[-1]].contiguous()
        h, w = self.whole(y.shape)
        if h and w:
            out[..., :h, :w] = self.quantize(out[..., :h, :w])
        return out
