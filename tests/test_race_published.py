"""Operators in the form of the public implementations: the same A, gradients and steps as ours."""

import warnings
from dataclasses import replace

import pytest
import torch
from conftest import COLLAPSED, photo_like, random_weights

import lmaps_fast as lf
from lmaps_fast.engine.schedule import Schedule
from lmaps_fast.local_map import Problem
from lmaps_fast.noise import SAMPLER, keys
from lmaps_fast.operators.structures import Autograd, Kronecker
from lmaps_fast.race.published import as_published
from lmaps_fast.solvers import LMAPS, State
from lmaps_fast.solvers.daps import DAPS, DAPSSettings

SHAPES = [(1, 40, 56), (3, 17, 20)]
# Of A(x) and the gradient, relative in the 2-norm: the two sum in another order, and FFTs stand against direct sums.
TOLERANCE = {torch.float64: 1e-11, torch.float32: 3e-6}
STEPS_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}

generator = torch.Generator().manual_seed(5)
SEPARABLE = torch.outer(torch.rand(9, generator=generator), torch.rand(5, generator=generator)) / 11
WIDE = torch.outer(torch.rand(31, generator=generator), torch.rand(33, generator=generator)) / 250
CASES = {
    "super_resolution": {},
    "super_resolution, average": {"scale": 3, "method": "average"},
    "inpainting_box": {"seed": 3},
    "inpainting_random": {"seed": 4, "missing": 0.5},
    "gaussian_deblurring": {},
    "gaussian_deblurring, narrow": {"sigma": 0.8},
    "motion_deblurring": {"seed": 2},
    "motion_deblurring, circular": {"seed": 2, "padding": "circular"},
    "motion_deblurring, separable": {"kernel": SEPARABLE},
    "motion_deblurring, wide": {"kernel": WIDE},
    "phase_retrieval": {"oversampling": 3.0},
    "high_dynamic_range": {"gain": 1.7, "surrogate": "autograd"},
    "denoising": {},
}


def pair(case, shape, dtype):
    operator = lf.operators.create(case.split(",")[0], shape, dtype=dtype, **CASES[case])
    twin = as_published(operator)
    x = photo_like(1, shape, dtype)
    return operator, twin, x, operator.measure(photo_like(1, shape, dtype, seed=1))


def assert_close(actual, expected, tolerance):
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    assert (actual - expected).norm() <= tolerance * expected.norm()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("case", CASES)
def test_same_forward_and_gradient(case, shape, dtype):
    if case == "motion_deblurring, wide" and shape[1] == 17:
        shape = (3, 18, 20)  # a padding of 15 and 16 pixels, nearly a whole side
    operator, twin, x, y = pair(case, shape, dtype)
    assert isinstance(twin, Autograd)
    assert not twin.collapses
    assert_close(twin(x), operator(x), TOLERANCE[dtype])
    assert_close(twin.gradient(x, y), operator.gradient(x, y), TOLERANCE[dtype])
    torch.testing.assert_close(twin.measure(x, seed=5), operator.measure(x, seed=5), rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_same_steps(case):
    """One step of LMAPS and one of DAPS, as the loop of separate steps on both sides."""
    dtype = torch.float64
    operator, twin, x, y = pair(case, (3, 20, 31), dtype)
    preset = replace(operator.preset("paper"), inner_steps=3)
    assert twin.preset("paper") == operator.preset("paper")

    def denoiser(x, sigma):
        return 0.9 * x

    for kind, settings in ((LMAPS, preset), (DAPS, DAPSSettings(2, 3, 1e-6))):
        starts, results = [], []
        for A, backend in ((operator, "reference"), (twin, None)):
            solver, problem = kind(A, denoiser, backend), Problem(A, y, backend)
            schedule, key = Schedule(solver, A, [settings]), keys(SAMPLER, 0, range(1))
            starts.append(solver.start(problem, schedule.level(0, key, x)).x)
            last = schedule.level(schedule.total - 1, key, x)
            results.append(solver.step(problem, State(x.clone(), x.clone()), last))
        torch.testing.assert_close(starts[1], starts[0], rtol=0, atol=0)
        for actual, expected in zip(results[1], results[0], strict=True):
            assert_close(actual, expected, STEPS_TOLERANCE[dtype])
            assert (actual - x).norm() > 1e-3 * x.norm()


@pytest.mark.parametrize("case", CASES)
def test_loop_of_the_twin_is_what_we_collapse(case):
    operator, twin, x, y = pair(case, (3, 20, 31), torch.float64)
    weights = random_weights(operator.name, torch.Generator().manual_seed(0), 4)
    loop, collapsed = Problem(twin, y)(x, weights), Problem(operator, y)(x, weights)
    assert (loop - collapsed).norm() < (1e-3 if "motion" in case else 1e-6) * (loop - x).norm()


def test_kernel_is_dense_and_61x61(monkeypatch):
    seen = []
    conv2d = torch.nn.functional.conv2d
    monkeypatch.setattr(torch.nn.functional, "conv2d", lambda x, w, **k: seen.append(w.shape) or conv2d(x, w, **k))
    for case in ("gaussian_deblurring", "motion_deblurring", "motion_deblurring, circular"):
        _, twin, x, _ = pair(case, (3, 33, 40), torch.float32)
        twin(x)
    assert seen == [(3, 1, 61, 61)] * 3


def test_hdr_has_the_gradient_of_autograd_whatever_the_surrogate():
    shape, dtype = (3, 32, 32), torch.float64
    ours = lf.operators.create("high_dynamic_range", shape, dtype=dtype, surrogate="autograd")
    x = photo_like(1, shape, dtype)
    for surrogate in ("slope", "identity"):
        twin = as_published(lf.operators.create("high_dynamic_range", shape, dtype=dtype, surrogate=surrogate))
        y = 0.9 * ours(x)
        torch.testing.assert_close(twin.gradient(x, y), ours.gradient(x, y), rtol=0, atol=1e-15)


@pytest.mark.parametrize("task", ["gaussian_deblurring", "super_resolution"])
def test_the_public_form_of_a_large_separable_operator(task):
    """It keeps taps in place of matrices."""
    operator = lf.operators.create(task, (1, 32, 400), dtype=torch.float64)
    assert operator.factors is not None
    x = photo_like(1, operator.shape, torch.float64)
    assert_close(as_published(operator)(x), operator(x), TOLERANCE[torch.float64])


def test_separable_operators_that_are_no_blur():
    torch.manual_seed(0)
    for rows, columns in ((torch.rand(16, 16), torch.rand(12, 20)), (torch.rand(16, 16), torch.rand(20, 20))):
        operator = Kronecker((1, 16, 20), rows.double() / 8, columns.double() / 8, dtype=torch.float64)
        x = photo_like(1, operator.shape, torch.float64)
        assert_close(as_published(operator)(x), operator(x), 1e-12)


def test_none_where_the_reference_is_what_the_public_code_does():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        operators = {task: lf.operators.create(task, (3, 32, 32)) for task in lf.operators.REGISTRY}
    without = [task for task, operator in operators.items() if as_published(operator) is None]
    assert without == ["nonlinear_deblurring", "jpeg_restoration", "quantization"]
    assert as_published(lf.operators.from_callable(torch.tanh, (3, 16, 16))) is None
    two = [lf.operators.create("inpainting_random", (3, 32, 32), seed=seed) for seed in range(2)]
    with pytest.raises(lf.InputError, match="one operator for all images, not 2"):
        as_published(lf.operators.stack(two))
    assert {case.split(",")[0] for case in CASES} == set(COLLAPSED) - set(without)
