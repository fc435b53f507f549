"""What is installed and what runs here, for people and for bug reports."""

import platform
from importlib.metadata import PackageNotFoundError, version

import torch

from lmaps_fast import denoisers, operators, solvers
from lmaps_fast.denoisers.natural import fast_dtype
from lmaps_fast.ops import backends


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def report() -> str:
    """The text of `lmaps-fast info`."""
    extension = backends.native()
    lines = [f"lmaps_fast {_version('lmaps_fast')}, Python {platform.python_version()}, {platform.machine()}"]
    lines += [f"  {package} {_version(package)}" for package in ("torch", "triton", "numpy", "pillow", "safetensors")]
    if isinstance(extension, str):
        lines.append(f"native extension: missing: {extension}")
    else:
        threads = torch.get_num_threads()
        lines.append(f"native extension: {extension.__file__}")
        lines.append(f"  CPU: {extension.isa()} of {', '.join(extension.available_isas())}")
        lines.append(f"  threads: {extension.thread_count(threads)} of {threads} asked for by torch")
        lines.append(f"  CUDA: {'built for ' + extension.cuda_architectures if extension.cuda_architectures else 'no'}")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none that torch can use"
    lines.append(f"GPU: {gpu}")
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        lines.append(f"backends on {device} tensors (the first that can run is chosen):")
        for backend in backends.AUTOMATIC[device]:
            lines.append(f"  {backend}: {backends.unavailable(backend, device) or 'yes'}")
        lines.append(f"  network of the prior in {str(fast_dtype(device)).removeprefix('torch.')}")
    lines.append(f"tasks: {', '.join(operators.REGISTRY)}")
    lines.append(f"solvers: {', '.join(solvers.REGISTRY)}")
    lines.append(f"priors: {', '.join(denoisers.NAMES)}")
    return "\n".join(lines)
