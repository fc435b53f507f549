"""Memory for large results, in huge pages: a system that hands out 4 KiB at a time takes longer than a local MAP."""

import ctypes
import sys

import torch
from torch import Tensor

LARGE = 16 << 20  # bytes above which the allocator takes new memory from the system
HUGE_PAGE = 2 << 20
MADV_HUGEPAGE = 14


def empty_like(x: Tensor) -> Tensor:
    """torch.empty_like(x).

    Args:
        x: any tensor.
    """
    out = torch.empty_like(x)
    if out.nbytes > LARGE and out.device.type == "cpu" and sys.platform == "linux":
        first = -(-out.data_ptr() // HUGE_PAGE) * HUGE_PAGE
        # An advice: where the system has no huge pages it is not taken, and nothing is lost.
        ctypes.CDLL(None).madvise(
            ctypes.c_void_p(first), ctypes.c_size_t(out.data_ptr() + out.nbytes - first), MADV_HUGEPAGE
        )
    return out
