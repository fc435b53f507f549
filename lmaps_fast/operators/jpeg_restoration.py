"""JPEG restoration: y = JPEG(x), without the rounding of pixels."""

import os
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from lmaps_fast.errors import InputError
from lmaps_fast.files import jpeg_file
from lmaps_fast.files.jpeg_file import JpegFile
from lmaps_fast.operators.structures import Pixelwise
from lmaps_fast.ops import PixelMap
from lmaps_fast.ops.jpeg_codec import SUBSAMPLINGS, JpegCodec, quality_tables
from lmaps_fast.presets import Preset


class JpegRestoration(Pixelwise):
    """A(x) = JPEG(x); the surrogate Jacobian is the identity (Eq. 16-18), so the gradient is A(x) - y.

    A measurement that JPEG cannot make (noise, or the rounding of an 8-bit file) is moved onto the codec's lattice
    first, in the loop and in the collapsed form: what no block of chroma can hold would pull at the pixels without end.
    `JpegRestoration.from_file` reads all options from a file.

    Args:
        shape: (1 or 3, H, W) of the images.
        quality: IJG quality, 1 to 100; default 5, the protocol's.
        tables: [2, 8, 8] quantization steps of luma and chroma, 1 to 65535; default: those of the quality.
        subsampling: of chroma, "4:4:4", "4:2:2" or "4:2:0" (default).
        average: whether a sample of chroma is the mean of its pixels, as libjpeg makes it; default: the protocol's,
            which takes the first.
        dtype, device: of the images; default float32, "cpu".

    Errors: InputError outside these ranges.
    """

    name = "jpeg_restoration"
    noise = 0.0
    can = frozenset({"pinv"})
    image_like = True
    exact = frozenset({"tables"})
    presets: ClassVar = {
        "paper": Preset(200, 100, 0.2, 0.5, 5),
        "natural": Preset(20, 100, 0.1, 0.5, 10, sigma_max=0.15, sigma_min=0.019, start="measurement"),
    }

    tables: Tensor  # float32 [1 or B, 2, 8, 8]

    def __init__(
        self,
        shape: Sequence[int],
        quality: int = 5,
        tables: Tensor | None = None,
        subsampling: str = "4:2:0",
        average: bool = False,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(shape, dtype, device)
        if shape[0] not in (1, 3):
            raise InputError(f"JPEG is for images of 1 or 3 channels, not {shape[0]}: give grey or RGB images")
        if subsampling not in SUBSAMPLINGS:
            raise InputError(f"unknown subsampling {subsampling!r}: choose one of {', '.join(SUBSAMPLINGS)}")
        steps = quality_tables(quality) if tables is None else torch.as_tensor(tables)
        if steps.shape != (2, 8, 8) or not ((steps >= 1) & (steps <= 65535)).all():
            raise InputError("quantization tables must be two of 8x8 steps (luma, chroma), from 1 to 65535")
        self.subsampling = SUBSAMPLINGS[subsampling] if shape[0] == 3 else (1, 1)
        self.average = average
        self.number("tables", steps[None], torch.float32)

    @property
    def codec(self) -> JpegCodec:
        return JpegCodec(self.shape[0], self.tables, self.subsampling, self.average)

    @classmethod
    def from_file(
        cls, file: str | os.PathLike | JpegFile, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> tuple["JpegRestoration", Tensor]:
        """The operator of a .jpg file, and the measurement [1, C, H, W] that the file holds, as stored (not upright).

        The measurement is made of the file's own DCT coefficients, found again by quantizing the decoded planes.
        """
        file = file if isinstance(file, JpegFile) else jpeg_file.read(file)
        operator = cls(
            tuple(file.planes.shape[1:]),
            tables=file.tables,
            subsampling=file.subsampling,
            average=True,
            dtype=dtype,
            device=device,
        )
        return operator, operator.forward(operator.codec.from_planes(file.planes).to(operator.device, dtype))

    @property
    def severity(self) -> list[float]:
        """Mean quantization step of the 16 lowest frequencies of luma over 120 (between qualities 5 and 10), at most 1:
        found to track the best noise levels from quality 5 to 90."""
        return [min(1.0, step / 120) for step in self.tables[:, 0, :4, :4].double().mean((1, 2)).tolist()]

    def forward(self, x: Tensor) -> Tensor:
        return self.codec(x)

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        return self.forward(x) - y

    def feasible(self, y: Tensor) -> Tensor:
        return self.codec.nearest(y)

    def pinv(self, y: Tensor) -> Tensor:
        """The identity: A(y) = y, but for rounding and the border, for every y that A makes."""
        return y

    def largest_eigenvalues(self) -> list[float]:
        return [1.0] * self.batch

    def pixel_map(self, y: Tensor) -> PixelMap:
        """K scalar steps per DCT coefficient, between one transform and its inverse."""
        return PixelMap("jpeg_map", y, (self.tables,), self.subsampling, self.average)
