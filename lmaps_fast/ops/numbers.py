"""Numbers of an operator, one for all images or one for each, as kernels read them."""

from collections.abc import Sequence

import torch
from torch import Tensor

Number = float | Sequence[float] | Tensor


def per_image(like: Tensor, *numbers: Number) -> Tensor:
    """float64 [1 or B, n], on the device of `like`: a column for each of n numbers, each a float or [1 or B]."""
    each = [torch.as_tensor(number, dtype=torch.float64, device=like.device).reshape(-1) for number in numbers]
    return torch.stack(torch.broadcast_tensors(*each), 1).contiguous()
