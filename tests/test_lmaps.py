"""LMAPS as a whole: exact oracles, seeds, batches, callbacks, and the embedded prior."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from conftest import COLLAPSED, photo_like
from solver_runs import Draws, gaussian_prior

import lmaps_fast as lf
from lmaps_fast.files import image
from lmaps_fast.levels import polynomial


def test_schedule_is_the_papers():
    sigmas = polynomial(200, 100.0, 0.1)
    assert len(sigmas) == 201
    assert sigmas[0] == pytest.approx(100)
    assert sigmas[-1] == 0
    assert sigmas[100] == pytest.approx(((100 ** (1 / 7) + 0.1 ** (1 / 7)) / 2) ** 7)
    assert all(a > b for a, b in pairwise(sigmas))


def test_weights_move_from_the_measurement_to_the_prior():
    preset = lf.operators.preset("gaussian_deblurring", "paper")
    lam = [preset.weights(sigma).lam for sigma in polynomial(20, 100.0, 0.1)]
    assert lam[0] < 1e-4
    assert lam[-2] > 0.5
    assert lam[-1] == 1
    assert preset.override(k1=0).weights(1.0).lam == 0


@pytest.mark.parametrize("task", ["gaussian_deblurring", "inpainting_random", "denoising"])
def test_local_map_reaches_eq_15_as_k_grows(task):
    """x0 = D + C A^T (A C A^T + sigma_y^2 I)^{-1} (y - A D) is the limit of the K steps for isotropic C."""
    shape, sigma = (1, 16, 18), 0.7
    operator = lf.operators.create(task, shape, dtype=torch.float64)
    preset = lf.operators.preset(task, "paper")
    D, y = photo_like(1, shape, torch.float64), operator.measure(photo_like(1, shape, torch.float64, seed=1))
    basis = torch.eye(16 * 18, dtype=torch.float64).view(-1, *shape)
    A = operator(basis).flatten(1).T
    w = preset.weights(sigma)
    # lam/2 |x - D|^2 + c/2 |A x - y|^2 is Eq. 15 with C = I / lam and sigma_y^2 = 1 / c.
    gain = A.T @ torch.linalg.inv(A @ A.T / w.lam + torch.eye(len(A), dtype=torch.float64) / w.c) / w.lam
    exact = D + (gain @ (y - operator(D)).flatten()).view_as(D)
    errors = []
    for steps in (10, 100, 1000, 20000):
        weights = lf.local_map.Weights(w.lam, w.k2, w.lr, steps)
        errors.append((lf.local_map.solve(operator, D, y, weights) - exact).norm().item())
    assert errors[0] > 1e3 * errors[-1]
    assert errors[-1] < 1e-9 * exact.norm()


def test_lmaps_with_a_gaussian_prior_follows_its_closed_recursion():
    """With rho = 0 and a Gaussian prior every step is affine: the sampler must equal that recursion in matrices."""
    shape = (1, 16, 16)
    denoiser = gaussian_prior(shape)
    mean = denoiser.mean
    operator = lf.operators.create("inpainting_random", shape, missing=0.5, dtype=torch.float64)
    y = operator.measure(photo_like(1, shape, torch.float64))
    preset = lf.Preset(8, 500, 0.05, 0.5, 10, sigma_max=3.0, sigma_min=0.05, rho=0.0)
    states = []
    result = lf.restore(y, operator, denoiser, preset=preset, seed=3, callback=states.append)
    assert [s.index for s in states] == list(range(8))
    assert torch.equal(states[-1].x0, result)
    covariance = denoiser.vectors @ torch.diag(denoiser.variances) @ denoiser.vectors.T
    mask, n = operator.mask.flatten(), 256
    sigmas = polynomial(8, 3.0, 0.05)
    x = sigmas[0] * Draws([0], shape, seed=3)().flatten()
    for sigma, sigma_next in pairwise(sigmas):
        gain = covariance @ torch.linalg.inv(covariance + sigma**2 * torch.eye(n, dtype=torch.float64))
        D = mean.flatten() + gain @ (x - mean.flatten())
        w = preset.weights(sigma)
        x0 = D
        for _ in range(w.steps):
            x0 = x0 - w.lr * (w.lam * (x0 - D) + w.c * mask * (mask * x0 - y.flatten()))
        x = x0 + sigma_next * (x - x0) / sigma
    torch.testing.assert_close(result.flatten(), x0, rtol=1e-10, atol=1e-10)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("task", COLLAPSED)
def test_an_image_does_not_depend_on_its_batch(task):
    operator = lf.operators.create(task, (3, 32, 40), dtype=torch.float64)
    y = operator.measure(photo_like(3, (3, 32, 40), torch.float64))

    def denoiser(x, sigma):
        return x / (1 + sigma**2)

    whole = lf.restore(y, operator, denoiser, steps=6, seed=5)
    for i in range(3):
        alone = lf.Restorer(operator, denoiser, steps=6)(y[i : i + 1], seed=5, images=[i])
        torch.testing.assert_close(alone[0], whole[i], rtol=1e-12, atol=1e-12)
    assert not torch.equal(lf.restore(y, operator, denoiser, steps=6, seed=6), whole)


def test_noise_levels_that_the_prior_was_not_trained_on_are_said():
    operator = lf.operators.create("denoising", (3, 16, 16))
    with pytest.warns(UserWarning, match="levels 200 to 200 leave those that the prior was trained on"):
        lf.Restorer(operator, steps=1, sigma_max=200.0, sigma_min=0.1)


def test_backends_agree_over_a_whole_restoration():
    operator = lf.operators.create("gaussian_deblurring", (3, 24, 40))
    y = operator.measure(photo_like(1, (3, 24, 40), torch.float32))
    prior = lf.denoisers.load("natural", dtype=torch.float32)  # bfloat16 would magnify the last digits
    by_backend = [lf.restore(y, operator, prior, steps=3, backend=name) for name in ("reference", "torch", "cpu")]
    for result in by_backend[1:]:
        torch.testing.assert_close(result, by_backend[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(3, 64, 64), (3, 37, 53), (1, 40, 45)], ids=str)
def test_the_embedded_prior_denoises_any_size_and_channels(shape):
    x = photo_like(2, shape, torch.float32)
    prior = lf.denoisers.load("natural")
    noisy = x + 0.3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    mean = prior(noisy, 0.3)
    assert mean.shape == x.shape
    assert (lf.metrics.psnr(mean, x) > lf.metrics.psnr(noisy, x) + 4).all()
    torch.testing.assert_close(prior(noisy[:1], 0.3), mean[:1], rtol=1e-4, atol=1e-4)


def test_bfloat16_costs_little():
    photo = image.read(Path(__file__).parents[1] / "examples" / "astronaut.png").pixels[..., 20:84, 80:144]
    noisy = photo + 0.2 * torch.randn(photo.shape, generator=torch.Generator().manual_seed(0))
    full, half = (lf.denoisers.load("natural", dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    loss = lf.metrics.psnr(full(noisy, 0.2), photo) - lf.metrics.psnr(half(noisy, 0.2), photo)
    assert loss.item() < 0.05  # one small crop; natural.md has the mean over photographs


def test_the_embedded_prior_is_small_enough_and_has_its_card():
    from lmaps_fast.denoisers.natural import WEIGHTS

    assert WEIGHTS.stat().st_size <= 16e6
    card = WEIGHTS.with_suffix(".md").read_text()
    assert "CC-BY-SA" in card


@pytest.fixture(scope="module")
def photo():
    path = Path(__file__).parents[1] / "examples" / "astronaut.png"
    return image.read(path).pixels[..., 20:116, 80:176].contiguous()


@pytest.mark.parametrize("task", [task for task in COLLAPSED if task != "phase_retrieval"])
def test_every_task_gains_on_a_photograph(task, photo):
    operator = lf.operators.create(task, (3, 96, 96))
    y = operator.measure(photo)
    restored, gain = lf.restore(y, operator, seed=1), 0.1 if task == "jpeg_restoration" else 0.5
    assert lf.metrics.psnr(restored, photo).item() > lf.metrics.psnr(operator.preview(y), photo).item() + gain


@pytest.mark.parametrize("quality", [10, 30, 60, 85])
def test_a_mild_jpeg_is_hardly_changed_at_worst(quality, photo):
    operator = lf.operators.create("jpeg_restoration", (3, 96, 96), quality=quality)
    y = operator.measure(photo)
    restored = lf.restore(y, operator, seed=1)
    assert lf.metrics.psnr(restored, photo).item() > lf.metrics.psnr(y, photo).item() - 0.15


@pytest.mark.parametrize("noise", [0.0125, 0.2])
def test_a_preset_follows_the_noise_it_is_told(noise, photo):
    operator = lf.operators.create("denoising", (3, 96, 96))
    y = operator.measure(photo, noise=noise)
    told, untold = (lf.metrics.psnr(lf.restore(y, operator, noise=n), photo).item() for n in (noise, None))
    assert told > untold + 1
    assert told > lf.metrics.psnr(y, photo).item()
    with pytest.raises(lf.InputError, match="paper's table is for the protocol's noise"):  # it is constant
        lf.Restorer(operator, preset="paper", noise=noise)
    paper = lf.Restorer(operator, preset="paper", noise=operator.noise).settings
    assert paper == [lf.operators.preset("denoising", "paper")]


def test_presets_keep_to_the_noise_levels_of_the_prior():
    for task, arguments in (("jpeg_restoration", {"quality": 95}), ("quantization", {"bits": 12})):
        preset = lf.operators.create(task, (3, 16, 16), **arguments).preset("natural")
        assert preset.sigma_min >= lf.presets.LEAST_SIGMA
        assert preset.sigma_max >= 2 * preset.sigma_min
    assert lf.operators.create("denoising", (3, 16, 16)).preset("natural", noise=0.0).k1 > 0


def test_a_restoration_from_phases_fits_its_measurement(photo):
    operator = lf.operators.create("phase_retrieval", (3, 96, 96))
    y = operator.measure(photo)
    restored = lf.restore(y, operator, seed=1, runs=1)
    assert (operator(restored) - y).norm() < 0.3 * (operator(torch.zeros_like(photo)) - y).norm()


def test_the_start_matters_at_low_noise_only(photo):
    operator = lf.operators.create("jpeg_restoration", (3, 96, 96), quality=10)
    y = operator.measure(photo)
    psnr = {
        (start, top): lf.metrics.psnr(lf.restore(y, operator, seed=1, start=start, sigma_max=top), photo).item()
        for start in ("noise", "measurement")
        for top in (0.1, 50.0)
    }
    assert psnr["measurement", 0.1] > psnr["noise", 0.1] + 0.1
    assert abs(psnr["measurement", 50.0] - psnr["noise", 50.0]) < 0.1


def test_bad_requests():
    operator = lf.operators.create("denoising", (3, 16, 16))
    y = torch.zeros(1, 3, 16, 16)
    for arguments, sentence in (
        ({"solver": "magic"}, "unknown solver"),
        ({"denoiser": "nothing"}, "neither a prior"),
        ({"steps": 0}, "steps must be a whole number, at least 1"),
        ({"preset": "best"}, "no preset 'best' for denoising: give one of paper, natural, or a Preset of your own"),
        ({"k3": 1.0}, "unknown hyper-parameter 'k3'"),
        ({"backend": "gpu"}, "unknown backend"),
        ({"sigma_max": 0.001}, "0 < sigma_min < sigma_max"),
        ({"start": "middle"}, "unknown start 'middle'"),
        ({"noise": -0.1}, "noise must be finite and not negative"),
    ):
        with pytest.raises(lf.InputError, match=sentence):
            lf.restore(y, operator, **arguments)
    jpeg = lf.operators.create("jpeg_restoration", (3, 16, 16))
    with pytest.raises(lf.InputError, match="for measurements without noise: leave noise out"):
        lf.restore(y, jpeg, noise=0.1)
    callable_operator = lf.operators.from_callable(lambda x: x, (2, 16, 16), linear=True)
    with pytest.raises(lf.InputError, match="the prior natural is for grey or RGB images"):
        lf.restore(torch.zeros(1, 2, 16, 16), callable_operator, preset=lf.Preset(2, 2, 0.1, 0.2, 1.0))
    with pytest.raises(lf.InputError, match="one number for each"):
        lf.Restorer(operator)(y, images=[0, 1])
