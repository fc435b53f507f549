"""The fused step: equal to its parts in every backend that runs here, and one launch between two network calls."""

import pytest
import torch
from conftest import COLLAPSED, levels_row, photo_like, random_weights
from torch.utils._python_dispatch import TorchDispatchMode

import lmaps_fast as lf
from lmaps_fast import ops
from lmaps_fast.denoisers import EDM
from lmaps_fast.noise import SAMPLER, keys
from lmaps_fast.ops import backends

FUSED = ("inpainting_random", "high_dynamic_range", "quantization", "jpeg_restoration")


class Network(torch.nn.Module):
    """A small network that depends on all that it is given."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x, c_noise):
        return self.conv(x) + c_noise.view(-1, 1, 1, 1).to(x.dtype)


def denoiser():
    torch.manual_seed(0)
    return EDM(Network())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shape", [(3, 37, 53), (1, 17, 90), (3, 64, 64)], ids=str)
@pytest.mark.parametrize("task", [*FUSED, "given"])
def test_equals_its_parts(task, shape, dtype, layout, generator):
    operator = lf.operators.create(task if task in FUSED else "denoising", shape)
    x, clean = (photo_like(2, shape, torch.float32, seed=seed) for seed in (1, 2))
    F = photo_like(2, shape, torch.float32, seed=3).to(dtype, memory_format=layout)
    y, weights = operator.measure(clean), random_weights(task, generator, 30)
    images, levels = keys(SAMPLER, 0, (3, 9)), levels_row(weights, (0.6, 0.3, 0.25, 0.4, 0.7), draw=5)
    D = 0.6 * x + 0.3 * F.float()
    x0 = lf.local_map.solve(operator, D, y, weights, backend="torch") if task in FUSED else y
    x_next = ops.add_normal(x0 + 0.25 * (x - x0), images, 5, 0.4, backend="torch")

    got_x, got_x0 = x.clone(), torch.full_like(x, float("nan"))
    got_input = torch.full_like(F, float("nan"))
    local_map = lf.local_map.Problem(operator, y).pixel_map if task in FUSED else ops.PixelMap("given", y)
    given_F = F if task in FUSED else None
    ops.step(local_map, got_x, got_x0, got_input, given_F, keys=images, levels=levels, most=weights.steps)

    # A quantizer's index may flip in float32: on few entries, and no others may differ.
    flips = 3 * 768 if task in ("quantization", "jpeg_restoration") else 0
    for got, wanted, tolerance in (
        (got_x0, x0, 1e-5),
        (got_x, x_next, 1e-5),
        (got_input.float(), (0.7 * x_next).to(dtype).float(), 1e-5 + torch.finfo(dtype).eps),
    ):
        assert got.isfinite().all()
        assert ((got - wanted).abs() > tolerance * (1 + wanted.abs())).sum() <= flips
    assert torch.equal(got_input, (0.7 * got_x).to(dtype))


def test_no_noise_draws_none_and_keeps_nothing():
    x = torch.full((1, 3, 8, 8), float("nan"))
    y = torch.randn(1, 3, 8, 8)
    x0, network_input = torch.empty_like(x), torch.empty_like(x)
    levels = levels_row(lf.local_map.Weights(0.5, 1.0, 0.1, 1), (1.0, 0.0, 0.0, 0.0, 0.0))
    finite = torch.zeros_like(x)
    given = ops.PixelMap("given", y)
    ops.step(given, finite, x0, network_input, None, keys=torch.tensor([1]), levels=levels, most=1)
    assert torch.equal(finite, y)
    assert torch.equal(x0, y)


@pytest.mark.parametrize("rho", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("task", COLLAPSED)
def test_restorations_equal_those_in_parts(task, rho):
    """Between two quantizer indices that flip lies a whole step, and the next network call spreads it: hence few
    steps and a bound on the share of pixels."""
    operator = lf.operators.create(task, (3, 40, 56))
    y = operator.measure(photo_like(2, operator.shape, torch.float32))
    options = {"steps": 3, "inner_steps": 10, "rho": rho, "runs": 1, "preset": "paper", "sigma_max": 1.0}
    if task in ("phase_retrieval", "high_dynamic_range"):
        options["lr"] = 1e-3
    fused, parts = (
        lf.restore(y, operator, denoiser(), seed=1, backend=backend, **options) for backend in ("cpu", "torch")
    )
    differs = (fused - parts).abs() > 1e-3 * parts.abs().max()
    assert fused.isfinite().all()
    assert differs.double().mean() <= (0.01 if task in ("quantization", "jpeg_restoration") else 0)


def test_callbacks_keep_what_they_are_given():
    operator = lf.operators.create("inpainting_random", (3, 16, 16))
    y = operator.measure(photo_like(1, operator.shape, torch.float32))
    seen = []
    last = lf.restore(y, operator, denoiser(), steps=3, preset="paper", callback=seen.append)
    assert torch.equal(seen[-1].x0, last)
    assert not torch.equal(seen[0].x0, seen[1].x0)


class Recorder(TorchDispatchMode):
    """The operations that do work, and those of them that allocate, between two network calls."""

    def __init__(self):
        super().__init__()
        self.launches, self.allocations, self.listening = [], [], False

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if self.listening:
            known = {t.untyped_storage().data_ptr() for t in args if isinstance(t, torch.Tensor)}
            made = [t for t in (out if isinstance(out, tuple) else (out,)) if isinstance(t, torch.Tensor)]
            new = any(t.untyped_storage().data_ptr() not in known for t in made)
            if new:
                self.allocations.append(str(function))
            if new or function._schema.is_mutable:
                self.launches.append(str(function))
        return out


@pytest.mark.parametrize(
    ("task", "launches", "allocations"),
    [
        ("inpainting_random", 1, 0),
        ("inpainting_box", 1, 0),
        ("denoising", 1, 0),
        ("high_dynamic_range", 1, 0),
        ("quantization", 1, 0),
        ("jpeg_restoration", 1, 0),
        ("gaussian_deblurring", 29, 28),
    ],
)
def test_launches_and_allocations_between_two_network_calls(task, launches, allocations):
    operator = lf.operators.create(task, (3, 32, 32))
    recorder, edm = Recorder(), denoiser()
    evaluate = edm.evaluate

    def marked(scaled, condition):
        recorder.listening = False
        F = evaluate(scaled, condition)
        recorder.listening, recorder.calls = True, getattr(recorder, "calls", 0) + 1
        if recorder.calls == 2:  # the first step prepares
            recorder.launches, recorder.allocations = [], []
        recorder.listening = recorder.calls == 2
        return F

    edm.evaluate = marked
    with recorder:
        lf.restore(operator.measure(photo_like(1, operator.shape, torch.float32)), operator, edm, steps=3)
    assert len(recorder.launches) <= launches, recorder.launches
    assert len(recorder.allocations) <= allocations, recorder.allocations
    assert recorder.launches[-1] == "lmaps_fast.step.default"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"x": torch.zeros(1, 3, 8, 8).double()}, "x is torch.float64: the fused step is for float32"),
        ({"x0": torch.zeros(1, 3, 8, 8).double()}, "x0 is torch.float64 but x is torch.float32"),
        ({"F": torch.zeros(1, 3, 8, 8).half()}, "F is torch.float16: F and network_input must both be"),
        ({"F": torch.zeros(1, 3, 8, 8).to(memory_format=torch.channels_last)}, "F has strides"),
        ({"network_input": torch.zeros(1, 3, 8, 9)}, "network_input has shape"),
        ({"keys": torch.zeros(2).long()}, "keys are torch.int64"),
    ],
)
def test_bad_tensors(change, sentence):
    zeros = lambda: torch.zeros(1, 3, 8, 8)  # noqa: E731
    given = {
        "F": zeros(),
        "x": zeros(),
        "x0": zeros(),
        "network_input": zeros(),
        "keys": torch.zeros(1).long(),
    } | change
    local_map = ops.PixelMap("diagonal_map", zeros(), (torch.ones(1, 1, 8, 8),))
    levels = levels_row(lf.local_map.Weights(0, 1, 1, 1), (1, 0, 0, 0, 1))
    with pytest.raises(lf.InputError, match=sentence):
        ops.step(local_map, **given, levels=levels, most=1, backend="cpu")


def test_without_a_native_backend_the_form_runs_and_the_reason_is_given(monkeypatch):
    monkeypatch.setattr(backends, "native", lambda: "the native extension is not built")
    x, x0, network_input = torch.zeros(3, 1, 3, 8, 8)
    given = ops.PixelMap("given", torch.ones(1, 3, 8, 8))
    named = {"keys": torch.zeros(1).long(), "levels": levels_row(lf.local_map.Weights(0, 1, 1, 1), (1, 0, 0, 0, 1))}
    ops.step(given, x, x0, network_input, None, **named, most=1)
    assert torch.equal(network_input, given.y)
    with pytest.raises(lf.InputError, match="backend 'cpu' cannot run here: the native extension is not built"):
        ops.step(given, x, x0, network_input, None, **named, most=1, backend="cpu")
