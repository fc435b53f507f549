"""Forward operators, one file each, and the registry that finds them by the paper's names."""

import inspect
from collections.abc import Sequence

from lmaps_fast.errors import InputError
from lmaps_fast.operators.base import Linear, Operator
from lmaps_fast.operators.denoising import Denoising
from lmaps_fast.operators.gaussian_deblurring import GaussianDeblurring
from lmaps_fast.operators.inpainting_box import InpaintingBox
from lmaps_fast.operators.inpainting_random import InpaintingRandom
from lmaps_fast.operators.jpeg_restoration import JpegRestoration

REGISTRY: dict[str, type[Operator]] = {
    cls.name: cls for cls in (GaussianDeblurring, InpaintingBox, InpaintingRandom, JpegRestoration, Denoising)
}


def parameters(task: str) -> list[str]:
    """The names of a task's own parameters. Raises InputError for an unknown task."""
    if task not in REGISTRY:
        raise InputError(f"unknown task {task!r}: choose one of {', '.join(REGISTRY)}")
    return [name for name in inspect.signature(REGISTRY[task]).parameters if name not in ("shape", "dtype", "device")]


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
    return REGISTRY[task](shape, **arguments)  # type: ignore[arg-type]


__all__ = ["REGISTRY", "Linear", "Operator", "create", "parameters", *sorted(c.__name__ for c in REGISTRY.values())]
