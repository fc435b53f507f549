"""Registers, memory, spills and theoretical occupancy of every GPU kernel, CUDA and Triton, without a GPU.

`python bench/kernels.py [--json FILE]` prints one table. Exit status 1 if a kernel spills, or one in float32 leaves
room for fewer threads than kernel_resources.MINIMUM_OCCUPANCY.
"""

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path

os.environ.pop("TRITON_INTERPRET", None)  # before triton is imported: the interpreter compiles nothing

import kernel_resources
from kernel_resources import Kernel

from lmaps_fast.ops import backends

CAPABILITIES = (80, 90, 100)


def extension() -> Path | str:
    """The file of lmaps_fast._C, or why it has no CUDA kernels to read."""
    native = backends.native()
    if isinstance(native, str):
        return native
    return Path(native.__file__) if native.cuda_architectures else "the extension was built without CUDA"


def table(kernels: list[Kernel]) -> str:
    head = ("kernel", "sm", "threads", "registers", "shared", "local", "spills", "occupancy")
    rows = [
        (k.name, k.capability, k.threads, k.registers, k.shared, k.local, k.spills, f"{k.occupancy:.1%}")
        for k in kernels
    ]
    width = max(len(str(row[0])) for row in [head, *rows])
    return "\n".join(f"{row[0]:{width}}" + "".join(f"{cell!s:>10}" for cell in row[1:]) for row in [head, *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the table to this file")
    parser.add_argument("--only", choices=("cuda", "triton"), help="leave the other kernels out")
    parser.add_argument("--quick", action="store_true", help="fewer variants of the Triton kernels")
    options = parser.parse_args()
    if kernel_resources.cuobjdump() is None:
        raise SystemExit("cuobjdump was not found: install the CUDA toolkit or triton")
    kernels = []
    if options.only != "triton":
        if isinstance(path := extension(), Path):
            kernels += kernel_resources.cuda_kernels(path)
        else:
            print(f"no CUDA kernels: {path}")
    if options.only != "cuda":
        kernels += kernel_resources.triton_kernels(CAPABILITIES, options.quick)
    print(table(kernels))
    if options.json:
        rows = [asdict(kernel) | {"occupancy": kernel.occupancy} for kernel in kernels]
        options.json.write_text(json.dumps(rows, indent=1))
    if problems := [problem for kernel in kernels if (problem := kernel.problem())]:
        raise SystemExit("\n".join(problems))


if __name__ == "__main__":
    main()
