"""What a .jpg file says of its own degradation: planes, quantization tables, subsampling, orientation."""

import os
from dataclasses import dataclass

import numpy as np
import torch
from PIL import JpegImagePlugin
from torch import Tensor

from lmaps_fast.errors import InputError
from lmaps_fast.files import image
from lmaps_fast.ops.jpeg_codec import SUBSAMPLINGS


@dataclass(frozen=True)
class JpegFile:
    """planes: [1, 1 or 3, H, W], Y, Cb, Cr in levels, Y from 0 to 255 and chroma around 0, each chroma sample repeated
    over its pixels. tables: [2, 8, 8]. orientation: the EXIF tag; the planes are as stored, not upright."""

    planes: Tensor
    tables: Tensor
    subsampling: str
    orientation: int


def read(path: str | os.PathLike) -> JpegFile:
    """Read a grey or YCbCr JPEG file. Raises InputError for other files and for CMYK or RGB-coded JPEG."""
    picture = image.open_image(path, ycbcr=True)
    if not isinstance(picture, JpegImagePlugin.JpegImageFile):
        raise InputError(f"{path}: this is not a JPEG file: give its quality with --quality")
    if picture.mode not in ("L", "YCbCr") or picture.info.get("adobe_transform") == 0:
        raise InputError(f"{path}: only grey and YCbCr JPEG can be restored from the file: give --quality instead")
    names = dict(enumerate(SUBSAMPLINGS))  # Pillow: 0, 1, 2 for 4:4:4, 4:2:2, 4:2:0
    sampling = JpegImagePlugin.get_sampling(picture) if picture.mode == "YCbCr" else 0
    if sampling not in names:
        raise InputError(f"{path}: its chroma subsampling is none of {', '.join(SUBSAMPLINGS)}: give --quality instead")
    # One table per component, by the selector in the frame header; Pillow gives tables in row-major order.
    selectors = [component[3] for component in picture.layer]
    tables = [picture.quantization[selector] for selector in (selectors[0], selectors[min(1, len(selectors) - 1)])]
    values = torch.from_numpy(np.array(picture, dtype=np.float64)).reshape(picture.height, picture.width, -1)
    planes = values.permute(2, 0, 1)[None].contiguous()
    if planes.shape[1] == 3:
        chroma = planes[:, 1:] - 128
        for dim, factor in zip((2, 3), SUBSAMPLINGS[names[sampling]], strict=True):
            if factor == 2:
                chroma = _undo_upsampling(chroma.transpose(dim, -1)).transpose(dim, -1)
        planes = torch.cat([planes[:, :1], chroma], 1)
    return JpegFile(
        planes,
        torch.tensor(tables, dtype=torch.float64).reshape(2, 8, 8),
        names[sampling],
        picture.getexif().get(image.ORIENTATION_TAG, 1),
    )


def _undo_upsampling(x: Tensor) -> Tensor:
    """Replace libjpeg's triangle upsampling along the last axis by plain repetition.

    libjpeg makes pixels 2i and 2i + 1 of sample i by 3/4 s_i + 1/4 s_{i-1} and 3/4 s_i + 1/4 s_{i+1}; the samples are
    the least-squares solution of that.
    """
    n = x.shape[-1]
    samples = (n + 1) // 2
    pixel = torch.arange(n)
    own = pixel // 2
    neighbour = (own + 2 * (pixel % 2) - 1).clamp(0, samples - 1)
    matrix = torch.zeros(n, samples, dtype=x.dtype)
    matrix[pixel, own] += 0.75
    matrix[pixel, neighbour] += 0.25
    inverse = torch.linalg.solve(matrix.T @ matrix, matrix.T)
    return (x @ inverse.T).repeat_interleave(2, -1)[..., :n]
