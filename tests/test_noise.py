"""The rule for random numbers, and the step from x0 to the next x."""

import math

import pytest
import torch
from solver_runs import Draws

import lmaps_fast as lf
from lmaps_fast.noise import SAMPLER, keys, seed_of
from lmaps_fast.solvers import Level
from lmaps_fast.solvers.renoise import renoise, shares

BACKENDS = ("cpu", "torch")


@pytest.mark.parametrize("backend", BACKENDS)
def test_philox_gives_the_published_words(backend):
    """Known answers of Random123 for philox4x32-10 with a zero counter and key, through Box-Muller in float64."""
    words = (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)
    expected = []
    for u, v in (words[:2], words[2:]):
        radius = math.sqrt(-2 * math.log(((u >> 8) + 1) / 2**24))
        angle = math.pi / 2 * ((v >> 31) + 2 * (v >> 30 & 1) + (v >> 6 & 0xFFFFFF) / 2**24 - 0.5)
        expected += [radius * math.cos(angle), radius * math.sin(angle)]
    eps = lf.ops.add_normal(torch.zeros(1, 256), torch.tensor([0]), 0, 1.0, backend=backend)
    torch.testing.assert_close(eps[0, ::64].tolist(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(3, 1), (2, 255), (2, 3, 37, 53)], ids=str)
def test_backends_make_the_same_numbers(shape, dtype):
    x = torch.linspace(-1, 1, math.prod(shape), dtype=dtype).view(shape)
    keys = torch.tensor([2**63 - 1, 12345, 0][: shape[0]])
    first, second = (lf.ops.add_normal(x, keys, 7, 0.5, backend=backend) for backend in BACKENDS)
    torch.testing.assert_close(first, second, rtol=0, atol=2e-6)
    assert torch.equal(lf.ops.add_normal(x[1:], keys[1:], 7, 0.5, backend="cpu"), first[1:])


def test_numbers_are_standard_normal_and_independent():
    """Kolmogorov-Smirnov and correlations; each assertion is false for about one seed in a thousand."""
    from scipy.stats import kstest

    noise = Draws(range(2), (3, 128, 128), dtype=torch.float32)
    draws = [noise() for _ in range(4)]
    numbers = torch.stack(draws).double()
    n = numbers.numel()
    assert kstest(numbers.flatten().numpy(), "norm").pvalue > 1e-3
    assert abs(numbers.pow(4).mean() - 3) < 3.3 * math.sqrt(96 / n)
    for a, b in (
        (numbers[0], numbers[1]),  # of two draws
        (numbers[:, 0], numbers[:, 1]),  # of two images
        (numbers[..., :-1], numbers[..., 1:]),  # of neighbours
        (numbers.flatten()[:-64], numbers.flatten()[64:]),  # of outputs of one counter
    ):
        assert abs((a * b).mean()) < 3.3 / math.sqrt(a.numel())
    assert numbers.abs().max() < 6


def test_complex_noise_has_its_level_in_modulus():
    z = Draws([0], (200, 200), seed=1, dtype=torch.complex64)()
    assert z.abs().square().mean().item() == pytest.approx(1, abs=0.02)
    assert (z.real * z.imag).mean().abs() < 0.01


def level_of(sigma, following, rho, like):
    keep, noise = shares(sigma, following, rho)
    row = {"draw": 0.0, "keep": keep, "noise": noise}
    rows = torch.tensor([list(row.values())], dtype=torch.float64)
    return Level(tuple(row), rows, keys(SAMPLER, 3, [0]), [row], like, last=following == 0)


def test_renoise_is_eq_8b():
    x, x0 = torch.randn(1, 3, 16, 16, dtype=torch.float64), torch.randn(1, 3, 16, 16, dtype=torch.float64)
    sigma, following = 2.0, 0.5
    for rho in (0.0, 0.6, 1.0):
        eps = Draws([0], x.shape[1:], seed=3)()
        expected = x0 + following * (math.sqrt(1 - rho**2) * (x - x0) / sigma + rho * eps)
        result = renoise(x, x0, level_of(sigma, following, rho, x))
        torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)
    assert renoise(x, x0, level_of(sigma, 0.0, 1.0, x)) is x0


def test_keys_that_do_not_fit():
    with pytest.raises(lf.InputError, match=r"keys are torch.int64 \[1\] on cpu but x holds 2 images"):
        lf.ops.add_normal(torch.zeros(2, 5), torch.tensor([1]), 0, 1.0, backend="cpu")


def test_keys_are_functions_of_purpose_seed_and_image():
    """Those of the first release, so that a seed keeps its images."""
    assert keys(SAMPLER, 3, [0, 7]).tolist() == [seed_of(SAMPLER, 3, 0), seed_of(SAMPLER, 3, 7)]
    assert len({seed_of(purpose, seed, image) for purpose in range(4) for seed in range(3) for image in range(3)}) == 36
    for bad in (-1, 1.5, True, "1", None):
        with pytest.raises(lf.InputError, match="seed must be a whole number, at least 0"):
            seed_of(SAMPLER, bad)
