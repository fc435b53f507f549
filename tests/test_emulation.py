"""The CUDA kernels' own code, thread for thread, on the CPU: JPEG with its shared memory and barriers, the fused step
and the normal numbers. What stays to a GPU is the compiler's part; see test_cuda.py."""

import pytest
import torch
from conftest import levels_row, photo_like, random_weights

import lmaps_fast as lf
from lmaps_fast import ops
from lmaps_fast.noise import SAMPLER, keys
from lmaps_fast.ops import backends, native

STEPS = ("inpainting_random", "high_dynamic_range", "quantization", "jpeg_restoration")


@pytest.fixture
def emulated(monkeypatch):
    """Run what is inside on the emulated kernels in place of those of the CPU, counting them."""
    launched = []

    def launch(kernel, like, arguments):
        launched.append(kernel)
        getattr(backends.native(), f"emulated_{kernel}")(arguments)

    class Switch:
        def __call__(self, run):
            with monkeypatch.context() as patch:
                patch.setattr(native, "launch", launch)
                result = run()
            assert launched
            return result

    return Switch()


def unwritten(monkeypatch):
    """Outputs begin as NaN, so that what no thread writes shows."""
    empty = torch.empty_like
    monkeypatch.setattr(torch, "empty_like", lambda t: empty(t).fill_(float("nan")))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("shape", [(3, 1), (2, 255), (2, 3, 37, 53)], ids=str)
def test_normal_numbers(shape, dtype, emulated, monkeypatch):
    unwritten(monkeypatch)
    x, images = torch.zeros(shape, dtype=dtype), torch.tensor([2**63 - 1, 12345, 0][: shape[0]])
    result = emulated(lambda: ops.add_normal(x, images, 7, 0.5, backend="cpu"))
    torch.testing.assert_close(result, ops.add_normal(x, images, 7, 0.5, backend="cpu"), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("shape", [(3, 37, 53), (1, 17, 90), (3, 64, 64), (3, 16, 19)], ids=str)
@pytest.mark.parametrize("average", [True, False], ids=["mean", "first"])
def test_jpeg_map(shape, subsampling, average, dtype, emulated, monkeypatch, generator):
    operator = lf.operators.create(
        "jpeg_restoration", shape, quality=20, subsampling=subsampling, average=average, dtype=dtype
    )
    D, y = photo_like(2, shape, dtype, seed=1), operator(photo_like(2, shape, dtype))
    weights = random_weights("jpeg_restoration", generator, 20)
    unwritten(monkeypatch)
    result = emulated(lambda: lf.local_map.solve(operator, D, y, weights, backend="cpu"))
    expected = lf.local_map.solve(operator, D, y, weights, backend="torch")
    differing = (result - expected).abs() > (1e-9 if dtype == torch.float64 else 1e-4)
    assert result.isfinite().all()
    assert differing.sum() <= (0 if dtype == torch.float64 else 3 * 768)  # float32: coefficients on a boundary


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shape", [(3, 37, 53), (1, 17, 90)], ids=str)
@pytest.mark.parametrize("task", STEPS)
def test_fused_step(task, shape, dtype, layout, emulated, generator):
    operator = lf.operators.create(task, shape)
    x, clean = (photo_like(2, shape, torch.float32, seed=seed) for seed in (1, 2))
    F = photo_like(2, shape, torch.float32, seed=3).to(dtype, memory_format=layout)
    weights = random_weights(task, generator, 20)
    levels = levels_row(weights, (0.6, 0.3, 0.25, 0.4, 0.7), draw=5)
    pixel_map = lf.local_map.Problem(operator, operator.measure(clean)).pixel_map
    named = {"keys": keys(SAMPLER, 0, (3, 9)), "levels": levels, "most": weights.steps}

    def run():
        buffers = (x.clone(), torch.full_like(x, float("nan")), torch.full_like(F, float("nan")))
        ops.step(pixel_map, *buffers, F, **named)
        return buffers

    for got, wanted in zip(emulated(run), run(), strict=True):
        assert got.isfinite().all()
        tolerance = 1e-5 + torch.finfo(got.dtype).eps
        differing = (got.float() - wanted.float()).abs() > tolerance * (1 + wanted.float().abs())
        assert differing.sum() <= (3 * 768 if task in ("quantization", "jpeg_restoration") else 0)
