"""Every Triton kernel compiled ahead of time, without a GPU: launchers run on CPU tensors, and each launch compiles.

What is compiled is what a GPU would be given, with the specializations that the arguments bring about. Import this in
a process without TRITON_INTERPRET.
"""

import pkgutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

import lmaps_fast as lf
from lmaps_fast import kernels
from lmaps_fast.ops.jpeg_codec import JpegCodec, quality_tables

JPEGS = (
    (1, "4:4:4", False),
    (3, "4:4:4", False),
    *((3, s, mean) for s in ("4:2:2", "4:2:0") for mean in (False, True)),
)
ALIGNED, RAGGED = (2, 3, 32, 32), (1, 3, 33, 49)  # where 16 divides the sizes, loads are wider


@dataclass(frozen=True)
class Compiled:
    """name: launcher, variant and dtype; threads of a program; shared: bytes of shared memory; cubin: the binary."""

    name: str
    capability: int
    threads: int
    shared: int
    cubin: bytes


class Capability:
    """A driver of Triton's that stands for a GPU of one compute capability, on which nothing can run."""

    def __init__(self, capability: int) -> None:
        self.capability = capability

    def get_current_device(self) -> int:
        return self.capability  # Triton keeps the kernels of each device apart

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)


def launches(dtype: torch.dtype, shape: tuple[int, ...], jpegs: Sequence) -> Iterator[tuple[str, Callable]]:
    """(name, call) of every launcher, with every variant of its constants but another K than 100."""
    from lmaps_fast.kernels import jpeg, normal, pointwise

    image, s = torch.zeros(shape, dtype=dtype), torch.zeros(1, 1, *shape[2:], dtype=dtype)
    pairs, keys = torch.zeros(*shape, 2, dtype=dtype), torch.zeros(shape[0], dtype=torch.int64)
    weights, short = (lf.local_map.Weights(0.3, 2.0, 0.1, steps) for steps in (100, 2))
    yield "diagonal_map", lambda: pointwise.diagonal_map(image, image, s, weights)
    yield "spectral_update", lambda: pointwise.spectral_update(image, image, s[0, 0], weights)
    yield "clip_map, one slope", lambda: pointwise.clip_map(image, image, 2.0, 2.0, 2.0, weights)
    yield "clip_map, two slopes", lambda: pointwise.clip_map(image, image, 2.0, 2.0, 0.5, weights)
    yield "quantization_map", lambda: pointwise.quantization_map(image, image, 3, weights)
    yield "phase_projection", lambda: pointwise.phase_projection(torch.view_as_complex(pairs), pairs)
    yield "add_normal", lambda: normal.add_normal(image, keys, 2, 0.5)
    for channels, subsampling, average in jpegs:
        codec, planes = JpegCodec(channels, quality_tables(5), subsampling, average), image[:, :channels].contiguous()
        name = f"jpeg_map, {'grey' if channels == 1 else subsampling}{' averaged' if average else ''}"
        yield name, lambda planes=planes, codec=codec: jpeg.jpeg_map(planes, planes, codec, short)


def compiled(capabilities: Sequence[int], quick: bool = False) -> Iterator[Compiled]:
    """All kernels for all capabilities; quick: without unaligned sizes, and of JPEG only grey and averaged 4:2:0.

    Raises AssertionError if there is a kernel that no launcher here reaches.
    """
    launched: list[tuple[JITFunction, object]] = []

    def compile_only(kernel: JITFunction, grid: tuple) -> Callable:
        def launch(*arguments: object, **constants: object) -> None:
            launched.append((kernel, kernel.run(*arguments, grid=grid, warmup=True, **constants)))

        return launch

    modules = [import_module(f"{kernels.__name__}.{module.name}") for module in pkgutil.iter_modules(kernels.__path__)]
    unseen = {value for module in modules for name, value in vars(module).items() if name.endswith("_kernel")}
    original, JITFunction.__getitem__ = JITFunction.__getitem__, compile_only
    try:
        for capability in capabilities:
            triton.runtime.driver.set_active(Capability(capability))
            for shape in (ALIGNED,) if quick else (ALIGNED, RAGGED):
                for dtype in (torch.float32, torch.float64):
                    for name, call in launches(dtype, shape, (JPEGS[0], JPEGS[-1]) if quick else JPEGS):
                        launched.clear()
                        call()
                        for kernel, binary in launched:
                            unseen.discard(kernel)
                            name += f"{', ragged' if shape == RAGGED else ''}, {str(dtype).removeprefix('torch.')}"
                            threads, shared = 32 * binary.metadata.num_warps, binary.metadata.shared
                            yield Compiled(name, capability, threads, shared, binary.asm["cubin"])
    finally:
        JITFunction.__getitem__ = original
    if unseen:
        raise AssertionError(f"no launch of {__name__} reaches {', '.join(sorted(k.__name__ for k in unseen))}")
