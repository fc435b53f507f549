"""On a GPU: every backend against the reference, captured against not captured, launches by the profiler.

Needs an NVIDIA GPU, so it is skipped elsewhere; `bench/gpu.sh` runs it. What of the CUDA code can run without one is
in test_emulation.py."""

import pytest
import torch
from conftest import (
    COLLAPSED,
    FLIPPED_ENTRIES,
    QUANTIZED,
    SHAPES,
    TASK_TOLERANCE,
    TOLERANCE,
    levels_row,
    photo_like,
    random_weights,
)
from test_fused import denoiser

import lmaps_fast as lf
from lmaps_fast import ops
from lmaps_fast.noise import SAMPLER, keys
from lmaps_fast.ops import backends

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")

BACKENDS = [name for name in ("cuda", "triton", "torch") if backends.unavailable(name, "cuda") is None]


def on_gpu(task, shape, dtype=torch.float32):
    operator = lf.operators.create(task, shape, dtype=dtype, device="cuda")
    clean, D = (photo_like(2, shape, dtype, seed=seed).cuda() for seed in (0, 1))
    return operator, operator.measure(clean), D


def test_the_first_choice_can_run():
    assert BACKENDS[0] == "cuda", backends.unavailable("cuda", "cuda")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("task", COLLAPSED)
@pytest.mark.parametrize("backend", BACKENDS)
def test_local_map_equals_the_loop(backend, task, shape, dtype, generator):
    operator, y, D = on_gpu(task, shape, dtype)
    weights = random_weights(task, generator, 100)
    expected = lf.local_map.gradient_descent(operator, D, y, weights)
    result = lf.local_map.solve(operator, D, y, weights, backend=backend)
    error, size = (result - expected).abs(), (expected - D).norm()
    if task in QUANTIZED:
        error = error.flatten().sort().values[: -FLIPPED_ENTRIES[dtype] or None]
    assert error.norm() <= TASK_TOLERANCE.get((task, dtype), TOLERANCE[dtype]) * size


@pytest.mark.parametrize("backend", BACKENDS)
def test_noise_is_that_of_the_cpu(backend):
    for shape in ((1,), (255,), (3, 37, 53)):
        x = torch.linspace(-1, 1, 2 * torch.Size(shape).numel()).view(2, *shape)
        here = ops.add_normal(x, keys(SAMPLER, 5, (2, 11)), 0, 0.5)
        with lf.use_backend(backend):
            there = ops.add_normal(x.cuda(), keys(SAMPLER, 5, (2, 11), device="cuda"), 0, 0.5)
        torch.testing.assert_close(there.cpu(), here, rtol=0, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("task", ["inpainting_random", "high_dynamic_range", "quantization", "jpeg_restoration"])
def test_fused_step_is_that_of_the_cpu(task, layout, dtype, generator):
    shape, results = (3, 37, 53), []
    weights = random_weights(task, generator, 30)
    for device in ("cpu", "cuda"):
        operator = lf.operators.create(task, shape, device=device)
        x, clean = (photo_like(2, shape, torch.float32, seed=seed).to(device) for seed in (1, 2))
        F = photo_like(2, shape, torch.float32, seed=3).to(device, dtype, memory_format=layout)
        images = keys(SAMPLER, 0, (3, 9), device=device)
        levels = levels_row(weights, (0.6, 0.3, 0.25, 0.4, 0.7), draw=3, device=device)
        y = operator(clean)
        x0, network_input = torch.full_like(x, float("nan")), torch.full_like(F, float("nan"))
        pixel_map = lf.local_map.Problem(operator, y).pixel_map
        ops.step(pixel_map, x, x0, network_input, F, keys=images, levels=levels, most=weights.steps)
        results.append([t.float().cpu() for t in (x, x0, network_input)])
    for here, there in zip(*results, strict=True):
        flips = 3 * 768 if task in QUANTIZED else 0
        assert ((here - there).abs() > 1e-4 + 2 * torch.finfo(dtype).eps * here.abs()).sum() <= flips


@pytest.mark.parametrize("task", COLLAPSED)
def test_captured_equals_not_captured_bit_for_bit(task):
    operator, y, _ = on_gpu(task, (3, 64, 64))
    network = denoiser()
    network.network.cuda()
    network.recordable = True
    captured, plain = (lf.Restorer(operator, network, steps=3, preset="paper", graphs=on) for on in (None, False))
    for seed in (0, 1):
        assert torch.equal(captured(y, seed=seed), plain(y, seed=seed))
    assert (captured.graphs is not None) == operator.recordable
    assert torch.equal(captured(y[:1], seed=1), plain(y[:1], seed=1))  # another shape: another graph


def test_a_network_that_waits_for_the_gpu_runs_without_a_graph():
    """It does not say that it can be recorded, so that is not tried."""
    operator, y, _ = on_gpu("denoising", (3, 16, 16))
    network = lambda x, sigma: x * float(x.abs().max() > 0)  # noqa: E731
    restorer = lf.Restorer(operator, network, steps=2)
    assert restorer.graphs is None
    assert restorer(y).isfinite().all()
    with pytest.raises(lf.InputError, match="the denoiser cannot be recorded in a CUDA graph"):
        lf.Restorer(operator, network, steps=2, graphs=True)


@pytest.mark.parametrize("task", ["inpainting_random", "jpeg_restoration", "quantization", "high_dynamic_range"])
def test_one_launch_between_two_network_calls(task):
    operator, y, _ = on_gpu(task, (3, 64, 64))
    network = denoiser()
    network.network.cuda()

    def launches(steps):
        restorer = lf.Restorer(operator, network, steps=steps, preset="paper", graphs=False)
        restorer(y)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            restorer(y)
        names = [event.name for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA]
        ours = [name for name in names if "lmaps_device" in name]
        return len(ours), len(names)

    def network_launches():
        x = torch.zeros_like(y).to(memory_format=torch.channels_last)
        condition = torch.zeros(len(y), 1, dtype=torch.float64, device="cuda")[:, 0]  # of the table of levels
        run = lambda: network.evaluate(x, condition.contiguous().float())  # noqa: E731
        run()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            run()
        return sum(event.device_type == torch.autograd.DeviceType.CUDA for event in profile.events())

    (ours_3, all_3), (ours_5, all_5) = launches(3), launches(5)
    assert ours_5 - ours_3 == 2
    assert all_5 - all_3 == 2 * (1 + network_launches())


def test_few_launches_around_a_filter():
    """Two products each way, with a copy at most for each, the filter, and the sums before and after."""
    operator, y, D = on_gpu("gaussian_deblurring", (3, 64, 64))
    problem, weights = lf.local_map.Problem(operator, y), lf.local_map.Weights(0.3, 5.0, 0.02, 100)
    problem(D, weights)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        problem(D, weights)
    assert sum(event.device_type == torch.autograd.DeviceType.CUDA for event in profile.events()) <= 10


def test_tensors_on_two_devices_are_refused():
    D, weights = torch.zeros(1, 3, 8, 8, device="cuda"), lf.local_map.Weights(0.5, 1.0, 0.1, 5)
    with pytest.raises(lf.InputError, match="y is on cpu but D is on cuda:0: move one of them"):
        ops.quantization_map(D, D.cpu(), 3, weights, backend="cuda")
    with pytest.raises(lf.InputError, match="the cpu kernels run on cpu tensors, not on cuda"):
        ops.quantization_map(D, D, 3, weights, backend="cpu")
