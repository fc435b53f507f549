"""The measurement protocol of DAPS in numbers: norms, supports, ranks, grids, for the tasks that test_operators.py does
not check against a definition of their own."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import photo_like
from PIL import Image

import lmaps_fast as lf
from lmaps_fast.operators import blur
from lmaps_fast.operators.motion_deblurring import motion_kernel
from lmaps_fast.operators.structures import Fourier, Kronecker, ReflectBlur


def create(task, shape=(3, 64, 80), **arguments):
    return lf.operators.create(task, shape, dtype=torch.float64, **arguments)


def power_iteration(operator, x, steps=200):
    for _ in range(steps):
        x = operator.adjoint(operator(x / x.norm()))
    return x.norm().item()


def test_bicubic_reduction_has_the_singular_values_of_the_protocol():
    operator = create("super_resolution", (1, 256, 256))
    rows = operator.rows[0, 0]
    values = torch.linalg.svdvals(rows)
    assert operator.measurement_shape == (1, 64, 64)
    assert values.max().item() == pytest.approx(0.5, abs=1e-12)
    assert values.min().item() == pytest.approx(0.3485, abs=5e-5)
    assert operator.s.max().item() == pytest.approx(1 / 16, abs=1e-12)
    assert ((rows[10] != 0).sum(), rows[10].sum().item()) == (16, pytest.approx(1, abs=1e-14))


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_bicubic_reduction_is_pillows_inside_and_mirrors_at_the_border(scale):
    x = photo_like(1, (1, 64, 96), torch.float32)
    operator = lf.operators.create("super_resolution", (1, 64, 96), scale=scale)
    # Pillow's bicubic has a = -.5 and antialiases too, but renormalises at the border instead of mirroring.
    theirs = Image.fromarray(x[0, 0].numpy()).resize((96 // scale, 64 // scale), Image.Resampling.BICUBIC)
    inside = (slice(2, -2), slice(2, -2))
    np.testing.assert_allclose(operator(x)[0, 0][inside], np.asarray(theirs)[inside], atol=1e-5)
    mirrored = torch.cat([x, x.flip(-1)], -1)
    twice = lf.operators.create("super_resolution", (1, 64, 192), scale=scale)(mirrored)
    torch.testing.assert_close(twice[..., : 96 // scale], operator(x), rtol=1e-5, atol=1e-5)


def test_average_pooling_and_sides_that_do_not_divide():
    x = photo_like(2, (3, 64, 80), torch.float64)
    operator = create("super_resolution", scale=4, method="average")
    torch.testing.assert_close(operator(x), F.avg_pool2d(x, 4), rtol=1e-12, atol=1e-12)
    for method in ("bicubic", "average"):
        operator = create("super_resolution", (3, 61, 78), scale=4, method=method)
        padded = F.pad(photo_like(1, (3, 61, 78), torch.float64), (0, 2, 0, 3), mode="replicate")
        assert operator.measurement_shape == (3, 16, 20)
        # The edge repeats: one row of padding is its copy, more of it goes on to mirror.
        mirrored = torch.cat([padded[..., :61, :78], padded[..., :61, :78].flip(-2)[..., :3, :]], -2)
        mirrored = torch.cat([mirrored, mirrored.flip(-1)[..., :2]], -1)
        whole = create("super_resolution", (3, 64, 80), scale=4, method=method)
        difference = (operator(padded[..., :61, :78]) - whole(mirrored)).abs()
        assert difference[..., :14, :18].max() < 1e-12


def test_motion_kernel_is_a_stroke():
    ranks = []
    for seed in range(8):
        kernel = motion_kernel(seed)
        assert kernel.shape == (61, 61)
        assert kernel.sum().item() == pytest.approx(1, abs=1e-12)
        assert kernel.min() >= 0
        assert torch.equal(kernel, motion_kernel(seed))
        ranks.append(int(torch.linalg.matrix_rank(kernel, rtol=1e-3)))
        assert 20 < (kernel > 0).sum() < 61 * 61 / 3
    assert not torch.equal(motion_kernel(0), motion_kernel(1))
    assert 8 <= np.median(ranks) <= 30


def test_motion_blur_is_the_dense_correlation_with_reflect_padding():
    operator = create("motion_deblurring", seed=2)
    assert isinstance(operator, ReflectBlur)
    kernel = motion_kernel(2)
    x = photo_like(2, (3, 64, 80), torch.float64)
    padded = F.pad(x, (30, 30, 30, 30), mode="reflect")
    expected = F.conv2d(padded, kernel.expand(3, 1, 61, 61), groups=3)
    torch.testing.assert_close(operator(x), expected, rtol=1e-12, atol=1e-12)


def test_the_structure_of_a_kernel_is_recognised(tmp_path):
    shape, x = (3, 40, 48), photo_like(1, (3, 40, 48), torch.float64)
    line = torch.tensor([0.1, 0.2, 0.4, 0.3, 0.0], dtype=torch.float64)
    separable, tilted = torch.outer(line, line[1:4]), torch.eye(5, dtype=torch.float64) / 5
    for kernel, padding, structure in (
        (separable, "reflect", Kronecker),
        (tilted, "reflect", ReflectBlur),
        (tilted, "circular", Fourier),
    ):
        operator = create("motion_deblurring", shape, kernel=kernel, padding=padding)
        assert isinstance(operator, structure)
        assert operator.name == "motion_deblurring"
        h, w = kernel.shape
        padded = F.pad(x, (w // 2, w // 2, h // 2, h // 2), mode=padding)
        expected = F.conv2d(padded, kernel.expand(3, 1, h, w), groups=3)
        torch.testing.assert_close(operator(x), expected, rtol=1e-12, atol=1e-12)
    Image.fromarray((tilted * 1275).round().byte().numpy()).save(tmp_path / "kernel.png")
    np.save(tmp_path / "kernel.npy", 7 * tilted.numpy())
    for name in ("kernel.png", "kernel.npy"):
        operator = create("motion_deblurring", shape, kernel=tmp_path / name)
        torch.testing.assert_close(operator(x), create("motion_deblurring", shape, kernel=tilted)(x), atol=1e-6, rtol=0)


def test_phase_retrieval_is_the_centred_oversampled_transform():
    operator = create("phase_retrieval", (3, 256, 256))
    assert operator.size == (384, 384)
    assert create("phase_retrieval", (1, 40, 56)).measurement_shape == (1, 60, 84)
    operator = create("phase_retrieval", (1, 16, 24))
    x = photo_like(1, (1, 16, 24), torch.float64)
    padded = np.pad(x[0, 0].numpy() / 2 + 0.5, ((4, 4), (6, 6)))
    spectrum = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(padded), norm="ortho"))
    np.testing.assert_allclose(operator(x)[0, 0].numpy(), np.abs(spectrum), atol=1e-12)
    # |A|^2 = 1/4: where y = |X| the Gauss-Newton matrix A'^T A' has no larger eigenvalue than that of F^H F / 4.
    v = photo_like(1, (1, 16, 24), torch.float64, seed=1)
    _, Av = torch.func.jvp(operator, (x,), (v,))
    assert Av.norm() <= 0.5 * v.norm()
    constant = torch.ones_like(x)
    _, Av = torch.func.jvp(operator, (constant,), (constant,))
    assert (Av.norm() / constant.norm()).item() == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
@pytest.mark.parametrize("shape", [(3, 37, 53), (1, 40, 48)], ids=str)
def test_phase_retrieval_equals_the_loop_where_no_frequency_is_near_zero(shape, dtype, tolerance):
    operator = lf.operators.create("phase_retrieval", shape, dtype=dtype)
    x = 0.05 * photo_like(2, shape, dtype) - 1  # dark, but for one bright point, whose spectrum is flat
    x[..., shape[1] // 2, shape[2] // 3] = 20.0
    y, D = operator.measure(x, noise=0.01), 0.9 * x - 0.1
    assert operator(D).min() > 0.05
    weights = lf.local_map.Weights(0.1, 1.0, 0.5, 100)
    loop = lf.local_map.gradient_descent(operator, D, y, weights)
    for backend in ("cpu", "torch"):
        result = lf.local_map.solve(operator, D, y, weights, backend)
        assert (result - loop).norm() <= tolerance * (loop - D).norm()


def test_the_best_of_several_runs_is_chosen_by_misfit():
    operator = lf.operators.create("phase_retrieval", (1, 32, 32))
    assert operator.runs == 4
    y = operator.measure(photo_like(2, (1, 32, 32), torch.float32), noise=0.0)
    preset = lf.Preset(3, 20, 0.5, 1.0, 1.0, sigma_max=3.0)
    starts = []

    def denoiser(x, sigma):
        starts.append(x.clone())
        return x / (1 + sigma**2)

    best = lf.restore(y, operator, denoiser, preset=preset, seed=4)
    assert len(starts) == 4 * 3
    assert len({round(float(x.sum()), 6) for x in starts[::3]}) == 4
    one = lf.restore(y, operator, denoiser, preset=preset, seed=4, runs=1)

    def misfit(x):
        return (operator(x) - y).square().flatten(1).sum(1)

    assert (misfit(best) <= misfit(one)).all()
    assert (misfit(best) < misfit(one)).any() or torch.equal(best, one)
    with pytest.raises(lf.InputError, match="runs must be a whole number, at least 1"):
        lf.restore(y, operator, denoiser, preset=preset, runs=0)


@pytest.mark.parametrize("surrogate", ["slope", "autograd", "identity"])
def test_high_dynamic_range_and_its_surrogates(surrogate, generator):
    operator = create("high_dynamic_range", surrogate=surrogate)
    x = photo_like(2, (3, 64, 80), torch.float64).requires_grad_()
    y = torch.zeros_like(x)
    assert (operator(x).abs() == 1).any()
    inside = (2 * x.detach()).abs() <= 1
    slope = {"slope": 2.0, "autograd": 2.0 * inside, "identity": 1.0}[surrogate]
    torch.testing.assert_close(operator.gradient(x, y).detach(), slope * operator(x).detach())
    if surrogate == "autograd":
        (expected,) = torch.autograd.grad(0.5 * operator(x).square().sum(), x)
        torch.testing.assert_close(operator.gradient(x, y).detach(), expected)
    weights = lf.local_map.Weights(0.2, 2.0, 0.1, 60)
    y, D = operator.measure(x.detach()), x.detach() * 0.8
    loop = lf.local_map.gradient_descent(operator, D, y, weights)
    for backend in ("cpu", "torch"):
        result = lf.local_map.solve(operator, D, y, weights, backend)
        assert (result - loop).norm() <= 1e-9 * (loop - D).norm()


@pytest.mark.parametrize("bits", [1, 2, 5])
def test_quantization_has_its_levels(bits):
    operator, levels = create("quantization", bits=bits), 2**bits
    x = torch.linspace(-1, 1, 3 * 64 * 80, dtype=torch.float64).view(1, 3, 64, 80)
    y = operator(x)
    torch.testing.assert_close(y.unique(), torch.linspace(-1, 1, levels, dtype=torch.float64))
    assert (y - x).abs().max() <= 1 / (levels - 1) + 1e-12
    assert torch.equal(operator.measure(x), y)  # the protocol adds no noise
    assert math.isclose(operator(torch.full_like(x, 1 - 1 / (levels - 1))).max().item(), 1)  # halves go up


@pytest.mark.parametrize(
    ("task", "arguments", "sentence"),
    [
        ("super_resolution", {"scale": 1}, "scale must be a whole number from 2"),
        ("super_resolution", {"scale": 2.5}, "scale must be a whole number from 2"),
        ("super_resolution", {"scale": 65}, "to the shorter side of the image, not 65"),
        ("super_resolution", {"method": "nearest"}, "unknown method 'nearest'"),
        ("motion_deblurring", {"intensity": 0.0}, "intensity must be above 0"),
        ("motion_deblurring", {"kernel": torch.ones(4, 5)}, "two odd sides"),
        ("motion_deblurring", {"kernel": torch.ones(3)}, "two odd sides"),
        ("motion_deblurring", {"kernel": torch.zeros(5, 5)}, "the kernel is zero everywhere"),
        ("motion_deblurring", {"kernel": torch.full((3, 3), math.nan)}, "the kernel holds NaN"),
        ("motion_deblurring", {"kernel": torch.ones(3, 163)}, "the kernel reaches 81 pixels"),
        ("motion_deblurring", {"kernel": torch.rand(3, 163)}, "the kernel reaches 81 pixels"),
        ("motion_deblurring", {"kernel": torch.ones(3, 81), "padding": "circular"}, "the kernel is 81x3 but the image"),
        ("motion_deblurring", {"padding": "zero"}, "unknown padding 'zero'"),
        ("motion_deblurring", {"kernel": "none.png"}, "there is no such file"),
        ("motion_deblurring", {"kernel": "none.npy"}, "not an array that can be read"),
        ("high_dynamic_range", {"gain": 0.0}, "gain must be positive"),
        ("high_dynamic_range", {"surrogate": "zero"}, "unknown surrogate"),
        ("quantization", {"bits": 0}, "bits must be a whole number from 1 to 16"),
        ("phase_retrieval", {"oversampling": -1.0}, "oversampling must be from 0"),
        ("jpeg_restoration", {"tables": torch.full((2, 8, 8), 70000.0)}, "from 1 to 65535"),
        ("nonlinear_deblurring", {"weights": "none.pth"}, "none.pth"),
    ],
)
def test_bad_parameters(task, arguments, sentence):
    with pytest.raises(lf.InputError, match=sentence):
        create(task, **arguments)


def test_norms_of_the_protocol():
    start = photo_like(1, (1, 256, 256), torch.float64)
    assert power_iteration(create("super_resolution", (1, 256, 256)), start, 30) == pytest.approx(1 / 16, rel=1e-3)
    assert power_iteration(create("gaussian_deblurring", (1, 256, 256)), start) == pytest.approx(1.009, abs=5e-4)


def test_blur_takes_a_kernel_of_ones_own_without_a_task():
    operator = blur((3, 24, 24), torch.ones(3, 3))
    torch.testing.assert_close(operator(torch.ones(1, 3, 24, 24)), torch.full((1, 3, 24, 24), 9.0))
