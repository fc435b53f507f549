"""collapsed == loop for every operator of the registry, in every backend that runs here."""

import math

import pytest
import torch
from conftest import (
    COLLAPSED,
    FLIPPED_ENTRIES,
    QUANTIZED,
    SHAPES,
    TASK_TOLERANCE,
    TASKS,
    TOLERANCE,
    photo_like,
    random_weights,
)

import lmaps_fast as lf
from lmaps_fast.operators.structures import Kronecker
from lmaps_fast.ops import backends

HAS_NATIVE = not isinstance(backends.native(), str)


def assert_equals_loop(result, loop, D, dtype, task):
    """To rounding, relative to the update; where there is a quantizer, in float32 up to a counted number of flips."""
    tolerance = TASK_TOLERANCE.get((task, dtype), TOLERANCE[dtype])
    scale = (loop - D).norm() / math.sqrt(loop.numel())
    error = (result - loop).abs()
    flipped = error > 20 * tolerance * scale
    if task in QUANTIZED:
        assert flipped.sum() <= FLIPPED_ENTRIES[dtype]
        error = error[~flipped]
    assert error.norm() <= tolerance * (loop - D).norm()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("task", COLLAPSED)
def test_collapsed_equals_loop(task, shape, batch, dtype, generator):
    operator = lf.operators.create(task, shape, seed=3, dtype=dtype)
    x = photo_like(batch, shape, dtype)
    y = operator.measure(x, seed=1)
    D = x + 0.2 * torch.randn(x.shape, generator=generator, dtype=dtype)
    for steps in (1, 7, 100):
        weights = random_weights(task, generator, steps)
        loop = lf.local_map.gradient_descent(operator, D, y, weights)
        for backend in ("cpu", "torch") if HAS_NATIVE else ("torch",):
            result = lf.local_map.solve(operator, D, y, weights, backend=backend)
            assert result.shape == D.shape
            assert_equals_loop(result, loop, D, dtype, task)


@pytest.mark.parametrize("task", TASKS)
def test_reference_backend_is_the_loop_and_differs_from_no_step(task, generator):
    operator = lf.operators.create(task, (3, 32, 40), dtype=torch.float64)
    D = photo_like(1, operator.shape, torch.float64)
    y = operator.measure(photo_like(1, operator.shape, torch.float64, seed=1))
    weights = random_weights(task, generator, 2 if task == "nonlinear_deblurring" else 20)
    loop = lf.local_map.gradient_descent(operator, D, y, weights)
    assert torch.equal(lf.local_map.solve(operator, D, y, weights, backend="reference"), loop)
    with lf.use_backend("reference"):
        assert torch.equal(lf.local_map.solve(operator, D, y, weights), loop)
    assert (loop - D).abs().max() > 1e-4


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("shape", [(3, 37, 53), (3, 32, 48), (1, 23, 31)], ids=str)
def test_jpeg_variants_equal_the_loop(subsampling, average, shape, generator):
    arguments = {"quality": 20, "subsampling": subsampling, "average": average, "dtype": torch.float64}
    operator = lf.operators.create("jpeg_restoration", shape, **arguments)
    x = photo_like(2, shape, torch.float64)
    y, weights = operator.measure(x), random_weights("jpeg_restoration", generator, 50)
    D = x + 0.1 * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    loop = lf.local_map.gradient_descent(operator, D, y, weights)
    for backend in ("cpu", "torch") if HAS_NATIVE else ("torch",):
        assert_equals_loop(lf.local_map.solve(operator, D, y, weights, backend), loop, D, torch.float64, operator.name)


@pytest.mark.parametrize("measured", [(24, 24), (12, 7)], ids=str)
def test_kronecker_factors_of_a_square_image_may_differ(measured, generator):
    rows, columns = (torch.randn(n, 24, generator=generator, dtype=torch.float64) / 24 for n in measured)
    operator = Kronecker((3, 24, 24), rows, columns, dtype=torch.float64)
    D = photo_like(2, (3, 24, 24), torch.float64)
    y, weights = operator.measure(0.5 * D), random_weights("gaussian_deblurring", generator, 40)
    loop = lf.local_map.gradient_descent(operator, D, y, weights)
    torch.testing.assert_close(lf.local_map.solve(operator, D, y, weights), loop, rtol=1e-9, atol=1e-12)


def test_masks_of_one_batch_may_differ(generator):
    masks = (torch.rand(3, 1, 24, 32, generator=generator) > 0.5).double()
    operator = lf.operators.create("inpainting_random", (3, 24, 32), mask=masks, dtype=torch.float64)
    x = photo_like(3, (3, 24, 32), torch.float64)
    y, weights = operator.measure(x), random_weights("inpainting_random", generator, 30)
    D = 0.5 * x
    loop = lf.local_map.gradient_descent(operator, D, y, weights)
    torch.testing.assert_close(lf.local_map.solve(operator, D, y, weights), loop, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 3, 64, 100, 1000])
def test_phi_is_the_sum_of_the_steps(steps):
    s = torch.tensor([0.0, 1e-12, 1e-6, 1e-3, 0.5, 1.0, 1.9], dtype=torch.float64)
    for lam, k2, lr in ((0.0, 1.0, 1.0), (0.3, 2.0, 0.5), (1e-9, 1e-6, 1e-3)):
        weights = lf.local_map.Weights(lam, k2, lr, steps)
        z = lr * (lam + weights.c * s)
        expected = lr * sum((1 - z) ** j for j in range(steps))
        torch.testing.assert_close(lf.local_map.phi(s, weights), expected, rtol=1e-12, atol=0)


def test_phi_keeps_its_digits_in_float32_where_the_quotient_loses_them():
    s = torch.tensor([1e-9, 1e-7, 1e-5], dtype=torch.float64)
    weights = lf.local_map.Weights(0.0, 1.0, 1.0, 100)
    exact = lf.local_map.phi(s, weights)
    torch.testing.assert_close(lf.local_map.phi(s.float(), weights).double(), exact, rtol=1e-6, atol=0)
    quotient = ((1 - (1 - s.float()) ** 100) / s.float()).double()
    assert ((quotient - exact) / exact).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"lam": 1.5}, "lam must be between 0 and 1"),
        ({"k2": -1}, "k2 must be finite and not negative"),
        ({"lr": 0}, "lr must be finite and positive"),
        ({"lr": float("nan")}, "lr must be finite and positive"),
        ({"steps": 0}, "steps must be a whole number"),
    ],
)
def test_weights_out_of_range(values, sentence):
    with pytest.raises(lf.InputError, match=sentence):
        lf.local_map.Weights(**{"lam": 0.5, "k2": 1.0, "lr": 0.1, "steps": 10, **values})
