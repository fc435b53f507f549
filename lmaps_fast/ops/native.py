"""From tensors to the argument structs of the extension."""

import math
from typing import Any

import torch
from torch import Tensor

from lmaps_fast import memory
from lmaps_fast.ops import backends


def launch(kernel: str, like: Tensor, arguments: object) -> None:
    """Call cpu_<kernel> or cuda_<kernel>, by the device of a tensor, on torch's threads or its current stream."""
    extension = backends.native()
    if like.is_cuda:
        with torch.cuda.device(like.device):
            getattr(extension, f"cuda_{kernel}")(arguments, torch.cuda.current_stream().cuda_stream)
    else:
        getattr(extension, f"cpu_{kernel}")(arguments, torch.get_num_threads())


def address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def codec(channels: int, matrices: list[float], subsampling: list[int], average: bool) -> Any:
    """The struct of what a JPEG kernel does not take from a table."""
    sub_h, sub_w = subsampling
    return backends.native().JpegCodec(channels=channels, matrices=matrices, sub_h=sub_h, sub_w=sub_w, average=average)


def pointwise(
    kind: str,
    D: Tensor,
    y: Tensor,
    weights: Tensor | None = None,
    s: Tensor | None = None,
    parameters: Tensor | None = None,
) -> Tensor:
    """Run a pointwise kernel on images D, [B, ...].

    weights: [1 or B, 4]. s: [1 or B, 1 or rows, *pixels], whose last dimensions are those of D after B and the rows of
    an image. parameters: [1 or B, n].
    """
    extension, out = backends.native(), memory.empty_like(D)
    if D.numel() == 0:
        return out
    size = D.numel() // D.shape[0]
    pixels = size if s is None else math.prod(s.shape[2:])
    arguments = extension.PointwiseArguments(
        name=getattr(extension.Pointwise, kind),
        out=out.data_ptr(),
        D=D.data_ptr(),
        y=y.data_ptr(),
        s=address(s),
        images=D.shape[0],
        rows_per_image=size // pixels,
        pixels=pixels,
        s_images=1 if s is None else s.shape[0],
        s_rows=1 if s is None else s.shape[1],
        is_double=D.dtype == torch.float64,
        weights=address(weights),
        weight_rows=1 if weights is None else weights.shape[0],
        parameters=address(parameters),
        parameter_rows=1 if parameters is None else parameters.shape[0],
        parameter_count=0 if parameters is None else parameters.shape[1],
    )
    launch("pointwise", D, arguments)
    return out
