"""What the compiled GPU kernels use of a multiprocessor, read from their binaries with cuobjdump: no GPU is needed."""

import importlib.util
import math
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

# A kernel in float32 must leave room for this share of the threads of a multiprocessor; none may spill.
MINIMUM_OCCUPANCY = 0.25


@dataclass(frozen=True)
class Multiprocessor:
    """Limits of a compute capability (CUDA C++ Programming Guide, technical specifications): shared in bytes."""

    threads: int
    blocks: int
    shared: int


MULTIPROCESSORS = {
    80: Multiprocessor(2048, 32, 164 << 10),
    86: Multiprocessor(1536, 16, 100 << 10),
    89: Multiprocessor(1536, 24, 100 << 10),
    90: Multiprocessor(2048, 32, 228 << 10),
    100: Multiprocessor(2048, 32, 228 << 10),
    120: Multiprocessor(1536, 24, 100 << 10),
}
# Since 8.0: 65536 registers in four parts, given to warps by 256; each block costs 1 KB of shared memory more.
REGISTERS, PARTS, REGISTER_UNIT, RESERVED_SHARED = 65536, 4, 256, 1024


@dataclass(frozen=True)
class Kernel:
    """One kernel of one architecture. registers of a thread; threads of a block, 0 if no launch bounds tell; shared:
    bytes of a block; local: bytes of a thread's stack and local memory; spills: instructions that use them."""

    name: str
    capability: int
    threads: int
    registers: int
    shared: int
    local: int
    spills: int

    @property
    def occupancy(self) -> float:
        """Share of a multiprocessor's threads that can be there at once, in theory."""
        if not self.threads:
            return 0.0
        limits, warps = MULTIPROCESSORS[self.capability], -(-self.threads // 32)
        of_warp = -(-max(self.registers, 1) * 32 // REGISTER_UNIT) * REGISTER_UNIT
        blocks = min(
            limits.blocks,
            limits.threads // (32 * warps),
            REGISTERS // PARTS // of_warp * PARTS // warps,
            limits.shared // (self.shared + RESERVED_SHARED),
        )
        return blocks * 32 * warps / limits.threads

    def problem(self) -> str | None:
        """Why this kernel is not good enough, or None."""
        where = f"{self.name} on sm_{self.capability}"
        if not self.threads:
            return f"{where} has no __launch_bounds__: its launch size is unknown"
        if self.local or self.spills:
            return f"{where} spills: {self.local} bytes of local memory, {self.spills} instructions"
        if self.occupancy < MINIMUM_OCCUPANCY and not re.search("double|float64", self.name):
            return f"{where} has an occupancy of {self.occupancy:.1%}, under {MINIMUM_OCCUPANCY:.0%}"
        return None


@cache
def cuobjdump() -> str | None:
    """The program of the CUDA toolkit, or else the one that Triton brings along."""
    if found := shutil.which("cuobjdump"):
        return found
    candidates = [Path("/usr/local/cuda/bin/cuobjdump")]
    if spec := importlib.util.find_spec("triton"):
        candidates.append(Path(spec.origin or "").parent / "backends/nvidia/bin/cuobjdump")
    return next((str(path) for path in candidates if path.exists()), None)


def _printed(path: Path, option: str) -> str:
    return subprocess.run([str(cuobjdump()), option, str(path)], check=True, capture_output=True, text=True).stdout


def _of_kernels(text: str, first_line: str, capability: int = 0) -> dict[tuple[int, str], str]:
    """{(capability, kernel): lines} of what cuobjdump prints of a binary for many architectures, or of a cubin, which
    is for the one given; first_line: the pattern of a line with a kernel's name."""
    found: dict[tuple[int, str], list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if match := re.match(r"arch = sm_(\d+)", line):
            capability, lines = int(match[1]), []
        elif match := re.match(first_line, line):
            lines = found.setdefault((capability, match[1]), [])
        lines.append(line)
    return {key: "\n".join(lines) for key, lines in found.items()}


def _read(path: Path, capability: int = 0) -> dict[tuple[int, str], tuple[int, int, int, int]]:
    """{(capability, kernel): (registers, shared, local, spills)} of a binary."""
    result = {}
    for key, text in _of_kernels(_printed(path, "--dump-resource-usage"), r" Function (\w+):", capability).items():
        numbers = {name: int(value) for name, value in re.findall(r"(REG|STACK|SHARED|LOCAL):(\d+)", text)}
        result[key] = numbers["REG"], numbers["SHARED"], numbers["STACK"] + numbers["LOCAL"], 0
    if any(local for _, _, local, _ in result.values()):  # only they can spill, and to disassemble takes long
        for key, text in _of_kernels(_printed(path, "-sass"), r"\s*Function : (\w+)", capability).items():
            result[key] = (*result[key][:3], len(re.findall(r"\b(?:STL|LDL)\b", text)))
    return result


def short_names(mangled: Sequence[str]) -> dict[str, str]:
    """Names of C++ functions without namespaces, return type and arguments; as they are where there is no c++filt."""
    program = shutil.which("cu++filt") or shutil.which("c++filt")
    if not (program and mangled):
        return {name: name for name in mangled}
    printed = subprocess.run([program], input="\n".join(mangled), check=True, capture_output=True, text=True).stdout
    return {name: _short(full) for name, full in zip(mangled, printed.splitlines(), strict=True)}


def _short(name: str) -> str:
    name = re.sub(r"\(anonymous namespace\)::|\w+::", "", name.removeprefix("void "))
    depth = 0
    for i, letter in enumerate(name):
        depth += (letter == "<") - (letter == ">")
        if letter == "(" and depth == 0:
            return name[:i].replace(" >", ">")
    return name


def cuda_kernels(extension: Path) -> list[Kernel]:
    """The CUDA kernels in lmaps_fast._C. Shared memory is what a kernel declares, without what a launch adds."""
    information = _of_kernels(_printed(extension, "-elf"), r"\.nv\.info\.(\w+)")
    read = _read(extension)
    names = short_names(sorted({name for _, name in read}))
    kernels = []
    for (capability, name), (registers, shared, local, spills) in read.items():
        bounds = re.search(
            r"EIATTR_MAX_THREADS\s+Format:\s*\w+\s+Value:\s*(\w+) (\w+) (\w+)", information[capability, name]
        )
        threads = math.prod(int(n, 16) for n in bounds.groups()) if bounds else 0
        kernels.append(Kernel(names[name], capability, threads, registers, shared, local=local, spills=spills))
    return sorted(kernels, key=lambda kernel: (kernel.name, kernel.capability))


def triton_kernels(capabilities: Sequence[int], quick: bool = False) -> list[Kernel]:
    """The Triton kernels, compiled here: in a process without TRITON_INTERPRET."""
    import kernel_triton

    kernels = []
    with tempfile.TemporaryDirectory() as folder:
        for binary in kernel_triton.compiled(capabilities, quick):
            path = Path(folder) / "kernel.cubin"
            path.write_bytes(binary.cubin)
            ((registers, shared, local, spills),) = _read(path, binary.capability).values()
            shared += binary.shared
            used = {"registers": registers, "shared": shared, "local": local, "spills": spills}
            kernels.append(Kernel(binary.name, binary.capability, binary.threads, **used))
    return sorted(kernels, key=lambda kernel: (kernel.name, kernel.capability))
