"""Forward operators, one file each, and the registry that finds them by the paper's names."""

import inspect
from collections.abc import Callable, Sequence

from lmaps_fast.errors import InputError
from lmaps_fast.operators.base import Linear, Operator
from lmaps_fast.operators.convolution import blur
from lmaps_fast.operators.denoising import Denoising
from lmaps_fast.operators.gaussian_deblurring import GaussianDeblurring
from lmaps_fast.operators.high_dynamic_range import HighDynamicRange
from lmaps_fast.operators.inpainting_box import InpaintingBox
from lmaps_fast.operators.inpainting_random import InpaintingRandom
from lmaps_fast.operators.jpeg_restoration import JpegRestoration
from lmaps_fast.operators.motion_deblurring import motion_deblurring
from lmaps_fast.operators.nonlinear_deblurring import NonlinearDeblurring
from lmaps_fast.operators.own import from_callable
from lmaps_fast.operators.own_deepinv import from_deepinv
from lmaps_fast.operators.phase_retrieval import PhaseRetrieval
from lmaps_fast.operators.quantization import Quantization
from lmaps_fast.operators.super_resolution import SuperResolution

REGISTRY: dict[str, Callable[..., Operator]] = {
    "super_resolution": SuperResolution,
    "inpainting_box": InpaintingBox,
    "inpainting_random": InpaintingRandom,
    "gaussian_deblurring": GaussianDeblurring,
    "motion_deblurring": motion_deblurring,
    "phase_retrieval": PhaseRetrieval,
    "nonlinear_deblurring": NonlinearDeblurring,
    "high_dynamic_range": HighDynamicRange,
    "jpeg_restoration": JpegRestoration,
    "quantization": Quantization,
    "denoising": Denoising,
}
SMALLEST_SIDE = 16


def parameters(task: str) -> list[str]:
    """The names of a task's own parameters. Raises InputError for an unknown task."""
    if task not in REGISTRY:
        raise InputError(f"unknown task {task!r}: choose one of {', '.join(REGISTRY)}")
    return [name for name in inspect.signature(REGISTRY[task]).parameters if name not in ("shape", "dtype", "device")]


def image_shape(task: str, measured: Sequence[int], **arguments: object) -> tuple[int, ...]:
    """The shape (C, H, W) of the image that a measurement of shape `measured` stands for."""
    parameters(task)
    return getattr(REGISTRY[task], "image_shape", Operator.image_shape)(measured, **arguments)


def create(task: str, shape: Sequence[int], **arguments: object) -> Operator:
    """The operator of a task for images of shape (C, H, W), its parameters by keyword; see each class for them.

    `dtype` and `device` (default float32, "cpu") say where it computes. `seed` is accepted by every task, also by
    those that draw nothing. Raises InputError for an unknown task or parameter and for values out of range.
    """
    allowed = parameters(task)
    if "seed" not in allowed:
        arguments.pop("seed", None)
    for name in arguments:
        if name not in (*allowed, "dtype", "device"):
            raise InputError(f"{task} has no parameter {name!r}: it takes {', '.join(allowed) or 'none'}")
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise InputError(f"shape must be (channels, height, width) with 1 or 3 channels, not {tuple(shape)}")
    if min(shape[1:]) < SMALLEST_SIDE:
        raise InputError(
            f"the image is {shape[2]}x{shape[1]}: the smallest that can be restored is 16x16, so enlarge or pad it"
        )
    return REGISTRY[task](shape, **arguments)


__all__ = [
    "REGISTRY",
    "Linear",
    "Operator",
    "blur",
    "create",
    "from_callable",
    "from_deepinv",
    "image_shape",
    "parameters",
]
