"""Each operator against its definition: numbers of the protocol, adjoints, gradients, seeds, bad input."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import TASKS, photo_like

import lmaps_fast as lf
from lmaps_fast.noise import SAMPLER, keys
from lmaps_fast.operators import Linear
from lmaps_fast.ops.jpeg_codec import quality_tables

SHAPE = (3, 40, 56)
NOT_LINEAR = ("high_dynamic_range", "jpeg_restoration", "nonlinear_deblurring", "phase_retrieval", "quantization")
SURROGATE_SLOPE = {"jpeg_restoration": 1, "quantization": 1, "high_dynamic_range": 2}


@pytest.fixture(params=TASKS)
def operator(request):
    return lf.operators.create(request.param, SHAPE, seed=1, dtype=torch.float64)


def test_adjoint_passes_the_dot_product_test(operator, generator):
    assert isinstance(operator, Linear) == (operator.name not in NOT_LINEAR)
    if operator.name in NOT_LINEAR:
        assert not hasattr(operator, "adjoint")
        return
    assert operator.check_adjoint() < 1e-12
    x = torch.randn(2, *SHAPE, generator=generator, dtype=torch.float64)
    r = torch.randn(2, *operator.measurement_shape, generator=generator, dtype=torch.float64)
    torch.testing.assert_close((operator(x) * r).sum(), (x * operator.adjoint(r)).sum(), rtol=1e-12, atol=1e-9)


def test_gradient_is_that_of_the_misfit(operator, generator):
    x = photo_like(1, SHAPE, torch.float64).requires_grad_()
    y = operator.measure(photo_like(1, SHAPE, torch.float64, seed=1))
    gradient = operator.gradient(x, y).detach()
    if operator.name in SURROGATE_SLOPE:
        expected = SURROGATE_SLOPE[operator.name] * (operator(x) - y).detach()
    else:
        (expected,) = torch.autograd.grad(0.5 * (operator(x) - y).square().sum(), x)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-12)


def test_operators_are_fixed_by_their_seed(operator):
    x = photo_like(1, SHAPE, torch.float64)
    again = lf.operators.create(operator.name, SHAPE, seed=1, dtype=torch.float64)
    assert torch.equal(operator(x), again(x))
    assert torch.equal(operator.measure(x, 0.1, seed=4), again.measure(x, 0.1, seed=4))
    if operator.name.startswith("inpainting"):
        assert not torch.equal(operator(x), lf.operators.create(operator.name, SHAPE, seed=2, dtype=torch.float64)(x))


def test_measurement_noise_has_its_level_and_is_not_the_samplers():
    operator = lf.operators.create("denoising", (3, 64, 64))
    x = torch.zeros(2, 3, 64, 64)
    eps = operator.measure(x, noise=0.05, seed=0) / 0.05
    assert abs(eps.std().item() - 1) < 0.02
    sampler = lf.ops.normal(keys(SAMPLER, 0, range(2)), (3, 64, 64))
    assert abs((eps * sampler).mean().item()) < 0.05
    assert torch.equal(operator.measure(x[:1], seed=0), operator.measure(x, seed=0)[:1])


def test_gaussian_blur_is_the_dense_61x61_convolution():
    operator = lf.operators.create("gaussian_deblurring", (3, 64, 80), dtype=torch.float64)
    t = torch.arange(-30, 31, dtype=torch.float64)
    line = torch.exp(-0.5 * (t / 3) ** 2) * (t.abs() <= 12)
    kernel = torch.outer(line, line) / line.sum() ** 2
    assert int((kernel > 0).sum()) == 25 * 25
    x = photo_like(1, (3, 64, 80), torch.float64)
    padded = F.pad(x, (30, 30, 30, 30), mode="reflect")
    expected = F.conv2d(padded, kernel.expand(3, 1, 61, 61), groups=3)
    torch.testing.assert_close(operator(x), expected, rtol=1e-12, atol=1e-12)


def test_gaussian_blur_is_scipys_and_has_the_norm_of_the_protocol():
    from scipy.ndimage import gaussian_filter

    operator = lf.operators.create("gaussian_deblurring", (1, 256, 256), dtype=torch.float64)
    assert operator.s.max().item() == pytest.approx(1.009, abs=5e-4)
    x = photo_like(1, (1, 256, 256), torch.float64)
    expected = gaussian_filter(x[0, 0].numpy(), 3.0, mode="mirror")
    np.testing.assert_allclose(operator(x)[0, 0].numpy(), expected, atol=1e-12)


def test_box_is_the_protocols():
    for seed in range(20):
        mask = lf.operators.create("inpainting_box", (3, 256, 256), seed=seed).mask[0, 0]
        rows, columns = (mask == 0).any(1).nonzero(), (mask == 0).any(0).nonzero()
        assert int((mask == 0).sum()) == 128 * 128 == len(rows) * len(columns)
        assert 32 <= rows[0] < 96
        assert 32 <= columns[0] < 96


def test_random_mask_is_the_protocols():
    mask = lf.operators.create("inpainting_random", (3, 256, 256), seed=5).mask
    missing = 1 - mask.mean().item()
    assert mask.shape == (1, 1, 256, 256)
    assert 0.70 - 1e-4 <= missing <= 0.71
    assert set(mask.unique().tolist()) == {0.0, 1.0}


def test_jpeg_tables_are_the_protocols():
    luma, chroma = quality_tables(5)
    assert luma[0].tolist() == [160, 110, 100, 160, 240, 255, 255, 255]
    assert chroma[0, :4].tolist() == [170, 180, 240, 255]
    assert quality_tables(100).unique().tolist() == [1.0]


def test_jpeg_is_close_to_pillows(tmp_path):
    from PIL import Image

    x = photo_like(1, (3, 64, 80), torch.float64)
    pixels = ((x[0] / 2 + 0.5) * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(tmp_path / "q.jpg", quality=30, subsampling="4:4:4")
    theirs = torch.from_numpy(np.asarray(Image.open(tmp_path / "q.jpg"), np.float64) / 127.5 - 1).permute(2, 0, 1)
    operator = lf.operators.create(
        "jpeg_restoration", (3, 64, 80), quality=30, subsampling="4:4:4", dtype=torch.float64
    )
    ours = operator(torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)[None])[0].clamp(-1, 1)
    # libjpeg rounds pixels and its colour constants have more digits: a coefficient may flip here and there.
    assert (ours - theirs).abs().mean() < 1 / 127.5


def test_a_jpeg_measurement_is_a_fixed_point_of_its_operator():
    for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
        for average in (False, True):
            arguments = {"quality": 15, "subsampling": subsampling, "average": average, "dtype": torch.float64}
            operator = lf.operators.create("jpeg_restoration", (3, 48, 64), **arguments)
            y = operator(photo_like(1, (3, 48, 64), torch.float64))
            torch.testing.assert_close(operator(y), y, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("task", "arguments", "sentence"),
    [
        ("deblurring", {}, "unknown task 'deblurring': choose one of"),
        ("denoising", {"sigma": 2}, "denoising has no parameter 'sigma'"),
        ("gaussian_deblurring", {"sigma": -1}, "sigma must be a positive number"),
        ("gaussian_deblurring", {"sigma": 20}, "the kernel reaches 80 pixels but a side of the image has 40"),
        ("inpainting_box", {"box": (30, 0, 20, 20)}, "leaves the image"),
        ("inpainting_random", {"missing": 1.0}, "missing must be a share"),
        (
            "inpainting_random",
            {"mask": torch.ones(40, 50)},
            r"the mask has shape \[40, 50\] but the image is \[3, 40, 56\]",
        ),
        ("inpainting_random", {"mask": torch.zeros(40, 56)}, "hides every pixel"),
        ("inpainting_box", {"mask": torch.full((40, 56), float("nan"))}, "NaN"),
        ("jpeg_restoration", {"quality": 0}, "quality must be from 1 to 100"),
        ("jpeg_restoration", {"subsampling": "4:1:1"}, "unknown subsampling"),
        ("jpeg_restoration", {"tables": torch.zeros(2, 8, 8)}, "quantization tables must be"),
    ],
)
def test_bad_parameters(task, arguments, sentence):
    with pytest.raises(lf.InputError, match=sentence):
        lf.operators.create(task, SHAPE, **arguments)


def test_bad_images():
    with pytest.raises(lf.InputError, match="smallest that can be restored is 16x16"):
        lf.operators.create("denoising", (3, 15, 40))
    with pytest.raises(lf.InputError, match="1 or 3 channels"):
        lf.operators.create("denoising", (4, 40, 40))
    operator = lf.operators.create("denoising", SHAPE)
    with pytest.raises(lf.InputError, match="noise must be finite and not negative"):
        operator.measure(torch.zeros(1, *SHAPE), noise=-1)
    with pytest.raises(lf.InputError, match=r"has shape \[1, 3, 40, 40\]"):
        operator.measure(torch.zeros(1, 3, 40, 40))
    with pytest.raises(lf.InputError, match="the image is of uint8: scale it"):
        operator.measure(torch.zeros(1, *SHAPE, dtype=torch.uint8))
    with pytest.raises(lf.InputError, match="NaN"):
        lf.restore(torch.full((1, *SHAPE), float("nan")), operator, denoiser=lambda x, sigma: x)
