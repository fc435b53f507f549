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

from lmaps_fast import kernels

# Channels, pixels of a chroma sample, and whether it is their mean
JPEGS = (
    (1, (1, 1), False),
    (3, (1, 1), False),
    *((3, subsampling, average) for subsampling in ((1, 2), (2, 2)) for average in (False, True)),
)
SUBSAMPLINGS = {(1, 1): "4:4:4", (1, 2): "4:2:2", (2, 2): "4:2:0"}
# Types and layouts of a network's tensors, each at least once
NETWORKS = (
    (torch.bfloat16, torch.channels_last),
    (torch.float16, torch.contiguous_format),
    (torch.float32, torch.contiguous_format),
)
ALIGNED, RAGGED = (2, 3, 32, 32), (1, 3, 33, 49)  # where 16 divides the sizes, loads are wider; RAGGED cuts MCUs


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


class CompileOnly:
    """A kernel whose launches compile it and do no more; `launched` gets the kernel and the binary of each."""

    def __init__(self, kernel: JITFunction, launched: list[tuple[JITFunction, object]]) -> None:
        self.kernel, self.launched = kernel, launched

    def __getitem__(self, grid: tuple) -> Callable:
        def launch(*arguments: object, **constants: object) -> None:
            self.launched.append((self.kernel, self.kernel.run(*arguments, grid=grid, warmup=True, **constants)))

        return launch


def codec(channels: int, subsampling: tuple[int, int], average: bool) -> tuple[str, tuple]:
    """The name of a JPEG variant, and the arguments from the matrices on."""
    name = "grey" if channels == 1 else SUBSAMPLINGS[subsampling]
    return name + " averaged" * average, ([0.1 * i for i in range(18)], subsampling, average)


def leaves(dtype: torch.dtype, shape: tuple[int, ...], jpegs: Sequence) -> Iterator[tuple[str, Callable]]:
    """(name, call) of every launcher but step, with every variant of its constants but another K than 100."""
    from lmaps_fast.kernels import jpeg, normal, pointwise

    image, s = torch.zeros(shape, dtype=dtype), torch.zeros(1, 1, *shape[2:], dtype=dtype)
    pairs, keys = torch.zeros(*shape, 2, dtype=dtype), torch.zeros(shape[0], dtype=torch.int64)
    row, tables = torch.zeros(1, 4, dtype=torch.float64), torch.zeros(1, 2, 8, 8)
    yield "diagonal_map", lambda: pointwise.diagonal_map(image, image, s, row, 100)
    yield "spectral_update", lambda: pointwise.spectral_update(image, image, s[:, 0], row, 100)
    yield "clip_map", lambda: pointwise.clip_map(image, image, row, row, 100)
    yield "quantization_map", lambda: pointwise.quantization_map(image, image, row, row, 100)
    yield "phase_projection", lambda: pointwise.phase_projection(torch.view_as_complex(pairs), pairs)
    yield "add_normal", lambda: normal.add_normal(image, keys, keys[:1], row[:, 0])
    for variant in jpegs:
        planes, (name, rest) = image[:, : variant[0]].contiguous(), codec(*variant)
        yield f"jpeg_map, {name}", lambda x=planes, rest=rest: jpeg.jpeg_map(x, x, tables, *rest, row, 100)


def steps(shape: tuple[int, ...], jpegs: Sequence, networks: Sequence) -> Iterator[tuple[str, Callable]]:
    """(name, call) of step, with every variant of its constants but another K than 100."""
    from lmaps_fast.kernels.step import step

    image, keys = torch.zeros(shape), torch.zeros(shape[0], dtype=torch.int64)
    levels, row, tables = torch.zeros(1, 10).double(), torch.zeros(1, 4).double(), torch.zeros(1, 2, 8, 8)

    def call(kind: str, channels: int, numbers: list, network: tuple, rest: tuple = ([], (1, 1), False)) -> Callable:
        x = image[:, :channels].contiguous()
        F = x.to(network[0], memory_format=network[1])
        return lambda: step(x, x, F, None if kind == "given" else F, x, keys, levels, 100, kind, numbers, *rest)

    for network in networks:
        of = f", {str(network[0]).removeprefix('torch.')} network" + ", NHWC" * (network[1] == torch.channels_last)
        yield f"step of given{of}", call("given", 3, [], network)
        yield f"step of diagonal_map{of}", call("diagonal_map", 3, [image[:1, :1].contiguous()], network)
        yield f"step of diagonal_map by channels{of}", call("diagonal_map", 3, [image[:1]], network)
        for kind in ("clip_map", "quantization_map"):
            yield f"step of {kind}{of}", call(kind, 3, [row], network)
        for variant in jpegs:
            name, rest = codec(*variant)
            yield f"step of jpeg_map, {name}{of}", call("jpeg_map", variant[0], [tables], network, rest)


def compiled(capabilities: Sequence[int], quick: bool = False) -> Iterator[Compiled]:
    """All kernels for all capabilities; quick: of JPEG only grey and averaged 4:2:0, of the rest only aligned
    sizes, and one type of network.

    Raises AssertionError if there is a kernel that no launcher here reaches.
    """
    launched: list[tuple[JITFunction, object]] = []
    jpegs, networks = ((JPEGS[0], JPEGS[-1]), NETWORKS[:1]) if quick else (JPEGS, NETWORKS)
    modules = [import_module(f"{kernels.__name__}.{module.name}") for module in pkgutil.iter_modules(kernels.__path__)]
    unseen = {value for module in modules for name, value in vars(module).items() if name.endswith("_kernel")}
    original, torch.library.wrap_triton = torch.library.wrap_triton, lambda kernel: CompileOnly(kernel, launched)
    try:
        for capability in capabilities:
            triton.runtime.driver.set_active(Capability(capability))
            for shape in (ALIGNED, RAGGED):
                kinds = [*leaves(torch.float32, shape, jpegs), *steps(shape, jpegs, networks)]
                calls = [(f"{name}, float32", call) for name, call in kinds]
                calls += [(f"{name}, float64", call) for name, call in leaves(torch.float64, shape, jpegs)]
                for name, call in calls:
                    if quick and shape == RAGGED and "jpeg" not in name:
                        continue
                    launched.clear()
                    call()
                    for kernel, binary in launched:
                        unseen.discard(kernel)
                        threads, shared = 32 * binary.metadata.num_warps, binary.metadata.shared
                        label = f"{name}{', ragged' * (shape == RAGGED)}"
                        yield Compiled(label, capability, threads, shared, binary.asm["cubin"])
    finally:
        torch.library.wrap_triton = original
    if unseen:
        raise AssertionError(f"no launch of {__name__} reaches {', '.join(sorted(k.__name__ for k in unseen))}")
