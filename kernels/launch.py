"""The one way in which kernels are launched."""

import torch
from torch import Tensor
from triton.runtime.jit import JITFunction


def launch(kernel: object, programs: int, out: Tensor, *arguments: object, **constants: object) -> None:
    """Run `programs` programs of a kernel on the device of its first argument.

    Inside a torch.library.triton_op torch.compile can look into a wrapped kernel; the interpreter has nothing to wrap.
    """
    wrapped = torch.library.wrap_triton(kernel) if isinstance(kernel, JITFunction) else kernel
    with torch.cuda.device_of(out):
        wrapped[(programs,)](out, *arguments, **constants)  # type: ignore[index]
