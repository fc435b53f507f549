"""Forward operators, one file each, and the registry that finds them by the paper's names."""

import inspect
from collections.abc import Callable, Iterable, Sequence

import torch

from lmaps_fast.errors import InputError
from lmaps_fast.noise import OPERATOR, seed_of
from lmaps_fast.operators.base import ABILITIES, Linear, Operator, stack
from lmaps_fast.operators.convolution import blur
from lmaps_fast.operators.denoising import Denoising
from lmaps_fast.operators.gaussian_deblurring import GaussianDeblurring
from lmaps_fast.operators.high_dynamic_range import HighDynamicRange
from lmaps_fast.operators.inpainting_box import InpaintingBox
from lmaps_fast.operators.inpainting_random import InpaintingRandom
from lmaps_fast.operators.jpeg_restoration import JpegRestoration
from lmaps_fast.operators.motion_deblurring import MotionDeblurring
from lmaps_fast.operators.nonlinear_deblurring import NonlinearDeblurring
from lmaps_fast.operators.own import from_callable
from lmaps_fast.operators.own_deepinv import from_deepinv
from lmaps_fast.operators.phase_retrieval import PhaseRetrieval
from lmaps_fast.operators.quantization import Quantization
from lmaps_fast.operators.super_resolution import SuperResolution
from lmaps_fast.presets import Preset

REGISTRY: dict[str, type[Operator]] = {
    "super_resolution": SuperResolution,
    "inpainting_box": InpaintingBox,
    "inpainting_random": InpaintingRandom,
    "gaussian_deblurring": GaussianDeblurring,
    "motion_deblurring": MotionDeblurring,
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
    return [name for name in inspect.signature(factory(task)).parameters if name not in ("shape", "dtype", "device")]


def factory(task: str) -> Callable[..., Operator]:
    """What makes the operator of a task: its class, or the class method `create` of one that chooses a structure."""
    if task not in REGISTRY:
        raise InputError(f"unknown task {task!r}: choose one of {', '.join(REGISTRY)}")
    return getattr(REGISTRY[task], "create", REGISTRY[task])


def check_parameters(task: str, names: Iterable[str]) -> None:
    """Raise InputError for names that are no parameters of a task."""
    allowed = parameters(task)
    for name in names:
        if name not in (*allowed, "seed", "dtype", "device"):
            raise InputError(f"{task} has no parameter {name!r}: it takes {', '.join(allowed) or 'none'}")


def preset(task: str, table: str = "paper") -> Preset:
    """The hyper-parameters of LMAPS for a task, in the table of that name: "paper" or "natural"."""
    factory(task)
    if table not in REGISTRY[task].presets:
        raise InputError(f"no preset {table!r} for {task}: choose one of {', '.join(REGISTRY[task].presets)}")
    return REGISTRY[task].presets[table]


def require(operator: Operator, user: str, needs: Iterable[str]) -> None:
    """Raise InputError, naming the tasks that do, unless the operator can do one of the things that `user` needs."""
    needs = tuple(needs)
    if needs and not operator.can & set(needs):
        able = [task for task, kind in REGISTRY.items() if kind.can & set(needs)]
        wanted = " or ".join(ABILITIES[need] for need in needs)
        raise InputError(
            f"{user} needs {wanted}, which {operator.name} does not have: use {', '.join(able)}, or an operator of "
            f"your own that has"
        )


def image_shape(task: str, measured: Sequence[int], **arguments: object) -> tuple[int, ...]:
    """The shape (C, H, W) of the image that a measurement of shape `measured` stands for."""
    parameters(task)
    return REGISTRY[task].image_shape(measured, **arguments)


def create(task: str, shape: Sequence[int], **arguments: object) -> Operator:
    """The operator of a task for images of shape (C, H, W), its parameters by keyword; see each class for them.

    Args:
        task: a name of `REGISTRY`; `lmaps-fast tasks` lists them with their parameters.
        shape: (C, H, W), 1 or 3 channels and at least 16x16 pixels.
        arguments: the task's own, and `dtype` and `device` (default float32, "cpu"). `seed` is accepted by every task,
            also by those that draw nothing.

    Errors: InputError for an unknown task or parameter and for values out of range.
    """
    check_parameters(task, arguments)
    if "seed" in arguments:
        seed_of(OPERATOR, arguments["seed"])  # type: ignore[arg-type]
    if "seed" not in parameters(task):
        arguments.pop("seed", None)
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise InputError(f"shape must be (channels, height, width) with 1 or 3 channels, not {tuple(shape)}")
    if min(shape[1:]) < SMALLEST_SIDE:
        raise InputError(
            f"the image is {shape[2]}x{shape[1]}: the smallest that can be restored is 16x16, so enlarge or pad it"
        )
    with torch.inference_mode(False):  # what is made inside could have no gradients outside
        return factory(task)(shape, **arguments)


__all__ = [
    "REGISTRY",
    "Linear",
    "Operator",
    "blur",
    "check_parameters",
    "create",
    "from_callable",
    "from_deepinv",
    "image_shape",
    "parameters",
    "preset",
    "require",
    "stack",
]
