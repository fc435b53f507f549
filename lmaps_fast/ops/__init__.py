"""The leaf operations, public for use in other solvers: one file each, with formula, PyTorch form, checks and kernels.

D, y and results share one dtype (float32 or float64) and device. What may differ between the images of a batch has a
leading axis of 1 or B.
"""

from lmaps_fast.ops.add_normal import add_normal, normal
from lmaps_fast.ops.backends import use_backend
from lmaps_fast.ops.clip_map import clip_map
from lmaps_fast.ops.diagonal_map import diagonal_map
from lmaps_fast.ops.jpeg_codec import JpegCodec
from lmaps_fast.ops.jpeg_map import jpeg_map
from lmaps_fast.ops.operation import REGISTRY
from lmaps_fast.ops.phase_projection import phase_projection
from lmaps_fast.ops.pixel_map import PixelMap
from lmaps_fast.ops.quantization_map import quantization_map
from lmaps_fast.ops.spectral_update import spectral_update
from lmaps_fast.ops.step import step

__all__ = [
    "REGISTRY",
    "JpegCodec",
    "PixelMap",
    "add_normal",
    "clip_map",
    "diagonal_map",
    "jpeg_map",
    "normal",
    "phase_projection",
    "quantization_map",
    "spectral_update",
    "step",
    "use_backend",
]
