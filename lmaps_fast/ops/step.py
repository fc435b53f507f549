"""All that lies between two network calls in one kernel.

D = skip x + out F;  x0 = local MAP of D;  x <- x0 + keep (x - x0) + noise eps;  network_input = scale x
"""

import math
from typing import Any

import torch
from torch import Tensor

from lmaps_fast.errors import InputError
from lmaps_fast.levels import COLUMNS
from lmaps_fast.ops import backends, checks, jpeg_codec, native
from lmaps_fast.ops.add_normal import OPERATION as ADD_NORMAL
from lmaps_fast.ops.operation import Operation
from lmaps_fast.ops.pixel_map import KINDS, PixelMap


def torch_form(
    x: Tensor,
    x0: Tensor,
    network_input: Tensor,
    F: Tensor | None,
    y: Tensor,
    keys: Tensor,
    levels: Tensor,
    most: int,
    kind: str,
    numbers: list[Tensor],
    matrices: list[float],
    subsampling: list[int],
    average: bool,
) -> None:
    columns = levels.view(-1, len(COLUMNS), *[1] * (x.dim() - 1)).unbind(1)
    skip, out, keep, _, scale = (column.to(x.dtype) for column in columns[4:9])
    D = skip * x if F is None else skip * x + out * F.float()
    made = y
    if kind != "given":
        fixed = (matrices, subsampling, average) if kind == "jpeg_map" else ()
        made = KINDS[kind].form(D, y, *numbers, *fixed, levels[:, :4].contiguous(), most)
    moved = made + keep * (x - made)
    x0.copy_(made)
    x.copy_(ADD_NORMAL.form(moved, keys, levels[:, 9].long(), levels[:, 7]))
    network_input.copy_(scale * x)


def fits(*arguments: Any) -> None:
    """arguments: those of `torch_form`."""
    x, x0, network_input, F, y, keys, levels, _, kind, numbers, *fixed = arguments
    if x.dtype != torch.float32:
        raise InputError(f"x is {x.dtype}: the fused step is for float32; convert it with .float()")
    checks.alike("x", x, x0=x0, y=y)
    if x.dim() < 3:
        raise InputError(f"x has shape {list(x.shape)}: the fused step needs images [B, C, *spatial]")
    if torch.is_grad_enabled() and (x.requires_grad or y.requires_grad or (F is not None and F.requires_grad)):
        raise InputError("the fused step has no gradient: call it under torch.no_grad()")
    for name, tensor in (("x0", x0), ("y", y)):
        checks.same_shape(name, tensor, x, "x")
    checks.image_keys(keys, x)
    checks.network_tensors(x, network_input, F)
    checks.rows("levels", levels, (len(COLUMNS),), x)
    if kind == "given":
        if numbers:
            raise InputError("a local MAP that is given has no numbers: leave them out")
        return
    if kind not in KINDS:
        raise InputError(f"unknown local MAP {kind!r}: choose one of given, {', '.join(KINDS)}")
    if len(numbers) != 1:
        raise InputError(f"{kind} needs one tensor of numbers, not {len(numbers)}: see PixelMap")
    KINDS[kind].fits(x, y, *numbers, *(fixed if kind == "jpeg_map" else ()))


def kernel(*arguments: Any) -> None:
    """arguments: those of `torch_form`."""
    x, x0, network_input, F, y, keys, levels, _, kind, numbers, *fixed = arguments
    if not x.numel():
        return
    extension = backends.native()
    s = numbers[0] if kind == "diagonal_map" else None
    tables = numbers[0] if kind == "jpeg_map" else None
    parameters = numbers[0] if kind in ("clip_map", "quantization_map") else None
    struct = extension.StepArguments(
        name=getattr(extension.Pointwise, kind),
        x=x.data_ptr(),
        x0=x0.data_ptr(),
        network_input=network_input.data_ptr(),
        F=native.address(F),
        y=y.data_ptr(),
        s=native.address(s),
        keys=keys.data_ptr(),
        batch=len(x),
        channels=x.shape[1],
        height=math.prod(x.shape[2:-1]),
        width=x.shape[-1],
        s_images=1 if s is None else len(s),
        s_channels=1 if s is None else s.shape[1],
        network_type=checks.NETWORK_TYPES.index(network_input.dtype),
        channels_last=checks.layout(network_input),
        levels=levels.data_ptr(),
        level_rows=len(levels),
        parameters=native.address(parameters),
        parameter_rows=1 if parameters is None else len(parameters),
        parameter_count=0 if parameters is None else parameters.shape[1],
        tables=native.address(tables),
        table_rows=1 if tables is None else len(tables),
        codec=native.codec(x.shape[1], *fixed) if tables is not None else None,
    )
    native.launch("step", x, struct)


OPERATION = Operation("step", torch_form, fits, kernel, weighted=False, triton="step", overwrites=3)


def step(
    local_map: PixelMap,
    x: Tensor,
    x0: Tensor,
    network_input: Tensor,
    F: Tensor | None,
    *,
    keys: Tensor,
    levels: Tensor,
    most: int,
    backend: str | None = None,
) -> None:
    """All that lies between two network calls in one kernel, each image by its own row of levels:

        D = skip x + out F;  x0 = local MAP of D;  x <- x0 + keep (x - x0) + noise eps;  network_input = scale x

    Args:
        local_map: the local MAP, made of each pixel or JPEG block on its own, or given.
        x: images [B, C, *spatial], float32, contiguous; overwritten.
        x0: a buffer like x, overwritten.
        network_input: a buffer of the same shape, float32, bfloat16 or float16, contiguous or channels_last;
            overwritten.
        F: the network's output, in type and layout like network_input; None: D = skip x.
        keys: [B] int64, of `lmaps_fast.noise.keys`; eps is that of `add_normal`.
        levels: float64 [1 or B, 10], a row of `lmaps_fast.levels.COLUMNS` for each image, or one for all.
        most: the largest K among the rows; the PyTorch form takes no more steps than this.
        backend: see `use_backend`; default: the quickest that can run.

    Errors: InputError for tensors that do not fit together or share memory.
    """
    images = (x, x0, network_input, F, local_map.y)
    fixed = (list(jpeg_codec.MATRICES), list(local_map.subsampling), local_map.average)
    flat = (*images, keys, levels, most, local_map.kind, list(local_map.numbers), *fixed)
    OPERATION(backend, *flat)
