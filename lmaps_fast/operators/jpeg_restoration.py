"""JPEG restoration: y = JPEG(x), without the rounding of pixels."""

import os
from collections.abc import Sequence

import torch
from torch import Tensor

from lmaps_fast import ops
from lmaps_fast.local_map import Weights
from lmaps_fast.operators import jpeg_file
from lmaps_fast.operators.base import Operator
from lmaps_fast.operators.jpeg_codec import JpegCodec, quality_tables
from lmaps_fast.operators.jpeg_file import JpegFile


class JpegRestoration(Operator):
    """A(x) = JPEG(x); the surrogate Jacobian is the identity (Eq. 16-18), so the gradient is A(x) - y.

    quality: IJG quality, 1..100 (the protocol: 5). tables: [2, 8, 8] quantization steps instead of a quality.
    subsampling: "4:4:4", "4:2:2", "4:2:0". average: chroma as libjpeg makes it; the protocol takes every second sample.
    `JpegRestoration.from_file` reads all of these from a file.
    """

    name = "jpeg_restoration"
    noise = 0.0

    def __init__(
        self,
        shape: Sequence[int],
        quality: int = 5,
        tables: Tensor | None = None,
        subsampling: str = "4:2:0",
        average: bool = False,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
    ) -> None:
        super().__init__(shape, dtype, device)
        self.codec = JpegCodec(
            shape[0], quality_tables(quality) if tables is None else torch.as_tensor(tables), subsampling, average
        )

    @classmethod
    def from_file(
        cls, file: str | os.PathLike | JpegFile, dtype: torch.dtype = torch.float32, device: str = "cpu"
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
        return operator, operator(operator.codec.from_planes(file.planes).to(device, dtype))

    @property
    def severity(self) -> float:
        """Mean quantization step of the 16 lowest frequencies of luma over 120 (between qualities 5 and 10), at most 1:
        found to track the best noise levels from quality 5 to 90."""
        return min(1.0, self.codec.tables[0, :4, :4].mean().item() / 120)

    def forward(self, x: Tensor) -> Tensor:
        return self.codec(x)

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        return self(x) - y

    def local_map(self, D: Tensor, y: Tensor, weights: Weights) -> Tensor:
        """K scalar steps per DCT coefficient, between one transform and its inverse."""
        return ops.jpeg_map(D, y, self.codec, weights)

    def pixel_map(self, y: Tensor) -> ops.PixelMap:
        return ops.PixelMap("jpeg_map", y, codec=self.codec)
