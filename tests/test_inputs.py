"""What users hand in: each ends in a right result, or in one sentence that names the remedy."""

import math

import numpy as np
import pytest
import torch
from conftest import photo_like

import lmaps_fast as lf
from lmaps_fast.operators.structures import BlockDiagonal, Dense, Diagonal, Kronecker

SHAPE = (3, 24, 32)
WEIGHTS = lf.local_map.Weights(0.2, 1.0, 0.3, 40)


def prior(x, sigma):
    return x / (1 + sigma**2)


@pytest.mark.parametrize(
    "kind", [torch.uint8, torch.bool, torch.int64, torch.float64, "white", "numpy", "numpy bool"], ids=str
)
def test_a_mask_means_the_same_in_every_type(kind):
    mask = torch.ones(24, 32, dtype=torch.float64).tril()
    given = {
        "white": 255 * mask.to(torch.uint8),
        "numpy": mask.numpy(),
        "numpy bool": mask.numpy() > 0,
    }.get(kind)
    given = mask.to(kind) if given is None else given
    for operator in (Diagonal(SHAPE, given), lf.operators.create("inpainting_random", SHAPE, mask=given)):
        assert torch.equal(operator.mask[0, 0].double(), mask)
        assert torch.equal(operator.s, operator.mask.square())


def test_a_mask_for_each_channel():
    mask = torch.stack([torch.ones(24, 32).tril(k) for k in (0, 3, -3)])
    operator, x = lf.operators.create("inpainting_random", SHAPE, mask=mask), photo_like(2, SHAPE, torch.float32)
    assert operator.batch == 1
    y = operator.measure(x, noise=0.0)
    assert torch.equal(y, mask * x)
    for backend in ("cpu", "torch"):
        loop = lf.local_map.gradient_descent(operator, 0.5 * x, y, WEIGHTS)
        torch.testing.assert_close(lf.local_map.solve(operator, 0.5 * x, y, WEIGHTS, backend), loop)


@pytest.mark.parametrize(
    ("mask", "sentence"),
    [
        (torch.arange(24 * 32).view(24, 32) % 3, "whole numbers between its least and its greatest"),
        (torch.full((24, 32), 2), None),
        (torch.ones(2, 24, 32), r"the mask has shape \[2, 24, 32\] but the image is \[3, 24, 32\]"),
        (-torch.ones(24, 32).long(), "whole numbers between"),
    ],
)
def test_odd_masks(mask, sentence):
    if sentence is None:
        assert torch.equal(Diagonal(SHAPE, mask).mask, torch.ones(1, 1, 24, 32))
    else:
        with pytest.raises(lf.InputError, match=sentence):
            Diagonal(SHAPE, mask)


def test_only_an_operator_that_says_so_has_a_preview():
    x = photo_like(1, SHAPE, torch.float32)
    for image_like in (False, True):
        operator = lf.operators.from_callable(lambda x: 0.5 * x, SHAPE, linear=True, image_like=image_like)
        assert (operator.preview(x) is not None) == image_like
        assert (operator.first_guess(x) is not None) == image_like
    fourier = lf.operators.from_callable(lambda x: torch.fft.fft2(x, norm="ortho"), SHAPE, linear=True)
    y = fourier.measure(x, noise=0.01)
    preset = lf.Preset(3, 50, 0.5, 0.25, 1.0, sigma_max=1.0, start="measurement")
    restored = lf.restore(y, fourier, prior, preset=preset)
    assert restored.dtype == torch.float32
    assert restored.isfinite().all()


def complex_matrix(*shape):
    real, imaginary = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return torch.complex(real, imaginary) / math.sqrt(shape[-1])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(
    "make",
    [
        lambda dtype: Dense((1, 6, 8), complex_matrix(30, 48), dtype),
        lambda dtype: BlockDiagonal((2, 6, 8), complex_matrix(6, 10, 16), dtype),
        lambda dtype: Kronecker((2, 6, 8), complex_matrix(5, 6), complex_matrix(7, 8), dtype),
    ],
    ids=["dense", "block-diagonal", "kronecker"],
)
def test_complex_matrices_measure_complex_numbers(make, dtype):
    operator = make(dtype)
    x = photo_like(2, operator.shape, dtype)
    y = operator.measure(x, noise=0.01)
    assert y.is_complex()
    assert y.imag.abs().max() > 0.01
    assert operator.check_adjoint() < 1e-5
    weights = lf.local_map.Weights(0.1, 1.0, 1 / (0.1 + 0.9 * operator.largest_eigenvalues()[0]), 60)
    loop = lf.local_map.gradient_descent(operator, 0.5 * x, y, weights)
    assert not loop.is_complex()
    tolerance = 2e-3 if isinstance(operator, Kronecker) else {torch.float64: 1e-9, torch.float32: 1e-4}[dtype]
    result = lf.local_map.solve(operator, 0.5 * x, y, weights)
    assert (result - loop).norm() <= tolerance * (loop - 0.5 * x).norm()


@pytest.mark.parametrize("solver", sorted(lf.solvers.REGISTRY))
def test_a_backend_that_cannot_run_is_refused_by_every_solver(solver):
    operator = lf.operators.create("denoising", SHAPE)
    y = operator.measure(photo_like(1, SHAPE, torch.float32))
    with pytest.raises(lf.InputError, match="the cuda kernels run on cuda tensors, not on cpu"):
        lf.restore(y, operator, prior, solver=solver, steps=2, backend="cuda")
    torch.testing.assert_close(
        lf.restore(y, operator, prior, solver=solver, steps=2, backend="torch"),
        lf.restore(y, operator, prior, solver=solver, steps=2),
        rtol=1e-3,
        atol=1e-4,
    )


@pytest.mark.parametrize("padding", ["reflect", "circular"])
@pytest.mark.parametrize("kernel", [torch.ones(3, 3) / 3, torch.eye(3)], ids=["separable", "diagonal"])
def test_steps_that_diverge_are_refused(padding, kernel):
    operator, x = lf.operators.blur(SHAPE, kernel, padding=padding), photo_like(1, SHAPE, torch.float32)
    least = 9 if padding == "circular" else 9.5  # the mirror doubles some pixels
    assert least - 1e-3 < operator.largest_eigenvalues()[0] < 1.3 * least
    weights = lf.local_map.Weights(0.1, 1.0, 0.5, 100)
    with pytest.raises(
        lf.InputError, match=r"lr = 0.5 is too long a step for .*, whose \|A\|\^2 is (9|1[01]).*: the steps"
    ):
        lf.local_map.solve(operator, x, operator(x), weights)
    preset = lf.Preset(3, 100, 0.02, 0.25, 50, sigma_max=1.0, sigma_min=0.02)
    with pytest.raises(lf.InputError, match=r"give lr = 0.00.* or less"):
        lf.Restorer(operator, prior, preset=preset)
    result = lf.restore(operator.measure(x), operator, prior, preset=preset.override(lr=0.002))
    assert result.isfinite().all()


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:2:2", "4:4:4"])
@pytest.mark.parametrize("shape", [(3, 32, 48), (3, 37, 53), (1, 30, 41)], ids=str)
def test_a_jpeg_measurement_off_the_lattice(shape, subsampling, generator):
    operator = lf.operators.create("jpeg_restoration", shape, quality=20, subsampling=subsampling, dtype=torch.float64)
    x = photo_like(2, shape, torch.float64)
    y = operator.measure(x)
    on = operator.feasible(y)
    assert (on - y).abs().max() < 1e-9  # what JPEG makes is on its lattice already
    noisy = (y * 127.5).round() / 127.5 + 0.02 * torch.randn(y.shape, generator=generator, dtype=torch.float64)
    nearest = operator.feasible(noisy)
    assert (operator.feasible(nearest) - nearest).abs().max() < 1e-9
    weights = lf.local_map.Weights(0.01, 10.0, 0.1, 100)
    loop = lf.local_map.gradient_descent(operator, x, noisy, weights)
    height, width = operator.codec.whole(shape)
    assert loop[..., :height, :width].abs().max() < 3  # it stays where images are
    for backend in ("cpu", "torch"):
        result = lf.local_map.solve(operator, x, noisy, weights, backend)
        assert ((result - loop).abs() > 1e-8).sum() <= 0


def test_measurements_come_in_many_types():
    operator, x = lf.operators.create("denoising", SHAPE), photo_like(2, SHAPE, torch.float32)
    y, preset = operator.measure(x), lf.Preset(2, 10, 0.1, 0.2, 10, sigma_max=0.2, sigma_min=0.02)
    expected = lf.restore(y, operator, prior, preset=preset)
    for given in (y.numpy(), y.double(), y.double().numpy(), y.to(memory_format=torch.channels_last)):
        assert torch.equal(lf.restore(given, operator, prior, preset=preset), expected)
    half = lf.restore(y.bfloat16(), operator, prior, preset=preset)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, expected, rtol=0.05, atol=0.05)
    with torch.inference_mode():
        assert torch.equal(lf.restore(operator.measure(x), operator, prior, preset=preset), expected)
    with pytest.raises(lf.InputError, match="the measurement is of uint8: scale it to"):
        lf.restore((y * 127.5 + 127.5).clamp(0, 255).byte(), operator, prior, preset=preset)
    with pytest.raises(lf.InputError, match="the measurement is a list: give a tensor or a numpy array"):
        lf.restore(y.tolist(), operator, prior, preset=preset)
    with pytest.raises(lf.InputError, match="device 'tpu' cannot be used here"):
        lf.operators.create("denoising", SHAPE, device="tpu")
    with pytest.raises(lf.InputError, match=r"float32 or float64, not in torch.float16"):
        lf.operators.create("denoising", SHAPE, dtype=torch.float16)
    with pytest.raises(lf.InputError, match="an array of object: give one of floating point"):
        lf.restore(np.array([[None]]), operator, prior, preset=preset)


@pytest.mark.parametrize("task", sorted(lf.operators.REGISTRY))
def test_global_settings_of_torch_change_nothing(task):
    """The default type, the precision of products and autocast belong to the caller's own code."""
    x, w = photo_like(2, SHAPE, torch.float32), lf.local_map.Weights(0.3, 0.5, 0.2, 3)

    def run():
        operator = lf.operators.create(task, SHAPE, seed=1)
        y = operator.measure(x, seed=2)
        restored = lf.restore(y, operator, prior, preset="paper", steps=2, inner_steps=3, runs=1)
        return y, lf.local_map.solve(operator, 0.5 * x, y, w), restored

    expected = run()
    torch.set_default_dtype(torch.float64)
    try:
        results = [run()]
    finally:
        torch.set_default_dtype(torch.float32)
    torch.set_float32_matmul_precision("medium")
    try:
        results.append(run())
    finally:
        torch.set_float32_matmul_precision("highest")
    with torch.autocast("cpu", torch.bfloat16):
        results.append(run())
    with torch.inference_mode():
        results.append(run())
    for result in results:
        for got, wanted in zip(result, expected, strict=True):
            assert got.dtype == wanted.dtype
            # Of a convolution torch takes another gradient at another precision, with other last digits.
            tolerance = 1e-5 if task == "nonlinear_deblurring" else 0.0
            torch.testing.assert_close(got, wanted, rtol=0, atol=tolerance)


def test_images_of_other_dimensions():
    """One, two and three spatial axes, and any number of channels."""
    for shape in ((5, 40), (2, 16, 18), (1, 6, 8, 10)):
        mask = (torch.rand(shape[1:], generator=torch.Generator().manual_seed(0)) > 0.4).double()
        operator, x = Diagonal(shape, mask), torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
        y = operator.measure(x)
        loop = lf.local_map.gradient_descent(operator, 0.5 * x, y, WEIGHTS)
        torch.testing.assert_close(lf.local_map.solve(operator, 0.5 * x, y, WEIGHTS), loop)
        preset = lf.Preset(3, 20, 0.1, 0.2, 10, sigma_max=1.0, sigma_min=0.02)
        assert lf.restore(y, operator, prior, preset=preset).shape == x.shape
        blur = lf.operators.from_callable(lambda x: 0.5 * (x + x.roll(1, -1)), shape, linear=True)
        y = blur.measure(x)
        loop = lf.local_map.gradient_descent(blur, 0.5 * x, y, WEIGHTS)
        assert (lf.local_map.solve(blur, 0.5 * x, y, WEIGHTS) - loop).norm() < 1e-3 * (loop - 0.5 * x).norm()


def test_complex_measurements_have_complex_noise():
    operator = Dense((1, 6, 8), complex_matrix(4000, 48))
    eps = operator.measure(torch.zeros(1, 1, 6, 8), noise=1.0, seed=3)
    assert eps.real.var().item() == pytest.approx(0.5, rel=0.1)
    assert eps.imag.var().item() == pytest.approx(0.5, rel=0.1)
