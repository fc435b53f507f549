"""The Triton kernels, under the interpreter on the CPU and compiled ahead of time for three architectures."""

import subprocess
import sys

import pytest
import torch

import lmaps_fast as lf

pytest.importorskip("triton", reason="triton is optional: GPUs without a CUDA build of the extension")

AHEAD_OF_TIME = """
import os
os.environ.pop("TRITON_INTERPRET", None)
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from lmaps_fast.kernels.pointwise import BLOCK, pointwise_kernel
for dtype in ("fp32", "fp64"):
    signature = {name: f"*{dtype}" for name in ("out", "D", "y", "s", "weights")}
    signature |= {name: "i32" for name in ("pixels", "s_rows", "s_repeat")}
    for diagonal in (True, False):
        constants = {"DIAGONAL": diagonal, "STEPS": 100, "BITS": 7, "BLOCK": BLOCK}
        source = ASTSource(pointwise_kernel, signature | {k: "constexpr" for k in constants}, constants)
        for capability in (80, 90, 100):
            kernel = triton.compile(source, target=GPUTarget("cuda", capability, 32))
            assert len(kernel.asm["cubin"]) > 1000
"""


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(1, 3, 37, 53), (3, 1, 40, 48)])
@pytest.mark.parametrize("steps", [1, 7, 100])
def test_pointwise_kernels_equal_torch(shape, dtype, steps, generator, monkeypatch):
    draw = lambda *size: torch.randn(size, generator=generator, dtype=dtype)  # noqa: E731
    D, y, s = draw(*shape), draw(*shape), draw(*shape[2:]).abs()
    weights = lf.local_map.Weights(0.3, 2.0, 0.1, steps)
    empty = torch.empty_like  # an element that no program writes stays NaN
    monkeypatch.setattr(torch, "empty_like", lambda t: empty(t).fill_(float("nan")))
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 1e-12, "atol": 1e-12}
    for masks in (1, shape[0]):
        pixels = draw(masks, 1, *shape[2:]).abs()
        result = lf.ops.diagonal_map(D, y, pixels, weights, backend="triton")
        torch.testing.assert_close(result, lf.ops.diagonal_map_torch(D, y, pixels, weights), **tolerance)
    result = lf.ops.spectral_update(D, y, s, weights, backend="triton")
    torch.testing.assert_close(result, lf.ops.spectral_update_torch(D, y, s, weights), **tolerance)


@pytest.mark.skipif(sys.platform != "linux", reason="triton compiles on Linux")
def test_kernels_compile_for_three_architectures():
    subprocess.run([sys.executable, "-c", AHEAD_OF_TIME], check=True)
