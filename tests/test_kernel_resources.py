"""What the GPU kernels use, read from their binaries: no spills, and room for enough threads."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import kernel_resources
import pytest
from kernel_resources import Kernel

from lmaps_fast.ops import backends

needs_cuobjdump = pytest.mark.skipif(
    kernel_resources.cuobjdump() is None, reason="cuobjdump was not found: it comes with the CUDA toolkit and triton"
)


@needs_cuobjdump
def test_cuda_kernels():
    extension = backends.native()
    assert not isinstance(extension, str), extension
    if not extension.cuda_architectures:
        pytest.skip("the extension was built without CUDA")
    kernels = kernel_resources.cuda_kernels(Path(extension.__file__))
    built = {int(architecture.split("-")[0]) for architecture in extension.cuda_architectures.split()}
    assert {kernel.capability for kernel in kernels} == built
    assert not [problem for kernel in kernels if (problem := kernel.problem())]


@needs_cuobjdump
@pytest.mark.skipif(sys.platform != "linux", reason="triton compiles on Linux")
def test_triton_kernels(tmp_path):
    pytest.importorskip("triton", reason="triton is optional")
    script = Path(__file__).parents[1] / "bench" / "kernels.py"
    command = [sys.executable, str(script), "--only", "triton", "--quick", "--json", str(tmp_path / "kernels.json")]
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TRITON_CACHE_DIR": str(tmp_path)})
    assert run.returncode == 0, run.stderr
    rows = json.loads((tmp_path / "kernels.json").read_text())
    assert {row["capability"] for row in rows} == {80, 90, 100}
    kernels = [Kernel(**{k: v for k, v in row.items() if k != "occupancy"}) for row in rows]
    assert not [problem for kernel in kernels if (problem := kernel.problem())]


def test_occupancy_is_that_of_the_calculator():
    kernel = Kernel("k", 90, threads=256, registers=32, shared=0, local=0, spills=0)
    assert kernel.occupancy == 1
    assert replace(kernel, registers=33).occupancy == 0.75  # 40 registers a thread: 6 blocks
    assert replace(kernel, registers=128).occupancy == 0.25
    assert replace(kernel, threads=96, registers=48).occupancy == 13 * 96 / 2048  # 40 warps by registers
    assert replace(kernel, threads=96, shared=11 << 10).occupancy == 19 * 96 / 2048  # 12 KB of 228
    assert replace(kernel, threads=32).occupancy == 0.5  # 32 blocks


def test_problems_are_named():
    kernel = Kernel("loop<float>", 80, threads=256, registers=32, shared=0, local=0, spills=0)
    assert kernel.problem() is None
    assert "spills: 8 bytes" in replace(kernel, local=8).problem()
    assert "occupancy of 12.5%, under 25%" in replace(kernel, registers=200).problem()
    assert replace(kernel, name="loop<double>", registers=200).problem() is None
    assert "no __launch_bounds__" in replace(kernel, threads=0).problem()


def test_names_are_shortened():
    mangled = "_ZN12lmaps_device4loopIfLi2ENS_15PhaseProjectionIfEEEEvT1_18PointwiseArguments"
    if kernel_resources.short_names([mangled])[mangled] == mangled:
        pytest.skip("c++filt is not installed")
    assert kernel_resources.short_names([mangled])[mangled] == "loop<float, 2, PhaseProjection<float>>"
