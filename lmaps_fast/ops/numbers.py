"""Numbers of an operator, one for all images or one for each, as kernels read them."""

from collections.abc import Sequence

import torch
from torch import Tensor

Number = float | Sequence[float] | Tensor


def per_image(like: Tensor, *numbers: Number) -> Tensor:
    """float64 [1 or B, n], on the device of `like`: a column for each of n numbers, each a float or [1 or B]."""
    each = [column(number, torch.float64, like.device) for number in numbers]
    return torch.stack(torch.broadcast_tensors(*each), 1).contiguous()


def column(number: Number, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A number as [1], made on the device, so that a CUDA graph can hold it; numbers of images as [1 or B]."""
    if isinstance(number, int | float):
        return torch.full((1,), number, dtype=dtype, device=device)
    return torch.as_tensor(number, dtype=dtype, device=device).reshape(-1).contiguous()
