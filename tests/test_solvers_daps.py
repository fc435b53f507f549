"""DAPS: its Langevin and Hamiltonian steps against matrices, and the exact draw against Langevin's distribution."""

import math
from itertools import pairwise

import pytest
import torch
from conftest import COLLAPSED, photo_like

import lmaps_fast as lf
from lmaps_fast.levels import polynomial
from lmaps_fast.operators import structures
from lmaps_fast.renoise import SAMPLER, Noise
from lmaps_fast.solvers import published, sample
from lmaps_fast.solvers.daps import DAPS, DAPSSettings

SHAPE = (1, 3, 4)
N = math.prod(SHAPE)
float64 = torch.float64


def noise_for(images, shape=SHAPE, seed=0):
    return Noise(SAMPLER, seed, images, shape, float64)


def gaussian_prior(shape=SHAPE):
    n, generator = math.prod(shape), torch.Generator().manual_seed(0)
    factor = torch.randn(n, n, generator=generator, dtype=float64) / n**0.5
    mean = 0.1 * torch.randn(shape, generator=generator, dtype=float64)
    return lf.denoisers.Gaussian(mean, 0.1 * factor @ factor.T + 0.01 * torch.eye(n, dtype=float64))


def small(kind):
    """A linear operator of each structure, some with directions of eigenvalue 0, of norm about 1."""
    generator = torch.Generator().manual_seed(1)

    def random(*size):
        return torch.rand(*size, generator=generator, dtype=float64)

    if kind == "diagonal":
        return structures.Diagonal(SHAPE, (random(3, 4) > 0.5).double() * random(3, 4), dtype=float64)
    if kind == "fourier":
        return structures.Fourier(SHAPE, random(3, 3) / 5, dtype=float64)
    if kind == "kronecker":
        return structures.Kronecker(SHAPE, random(2, 3) / 2, random(2, 4) / 2, dtype=float64)
    return structures.Dense(SHAPE, random(5, N) / 6, dtype=float64)


def matrix_of(operator):
    return operator(torch.eye(N, dtype=float64).view(N, *SHAPE)).flatten(1).T


def measurement(operator, batch=1):
    return operator.measure(photo_like(batch, operator.shape, float64))


def langevin_moments(operator, x0hat, y, sigma, eta, settings):
    """Mean and covariance of K Langevin steps, by their recursion: one affine map and added noise for each."""
    A, weight = matrix_of(operator), settings.c / settings.tau**2
    precision = weight * A.T @ A + torch.eye(N, dtype=float64) / sigma**2
    shift = weight * A.T @ y.flatten() + x0hat.flatten() / sigma**2
    mean, covariance = x0hat.flatten(), torch.zeros(N, N, dtype=float64)
    keep = torch.eye(N, dtype=float64) - eta * precision
    for _ in range(settings.inner_steps):
        mean = keep @ mean + eta * shift
        covariance = keep @ covariance @ keep.T + 2 * eta * torch.eye(N, dtype=float64)
    return mean, covariance


class GivenNoise:
    """In the place of `Noise`: one given draw."""

    def __init__(self, eps):
        self.eps = eps

    def __call__(self):
        return self.eps


@pytest.mark.parametrize("sigma", [0.05, 2.0])
@pytest.mark.parametrize("kind", ["diagonal", "fourier", "kronecker", "dense"])
def test_the_exact_draw_has_the_moments_of_the_langevin_recursion(kind, sigma):
    """Draws of the unit vectors give the matrix of the affine map from eps to x0, so its covariance without chance."""
    operator, settings = small(kind), DAPSSettings(2, 13, 4e-5, "exact")
    y, x0hat, eta = measurement(operator), photo_like(1, SHAPE, float64, seed=2), 4e-5
    solver = DAPS(operator, gaussian_prior(), settings)
    units = torch.cat((torch.zeros(1, N, dtype=float64), torch.eye(N, dtype=float64))).view(-1, *SHAPE)
    draws = solver.exact(x0hat, sigma, eta, solver.begin(y), GivenNoise(units)).flatten(1)
    factor = (draws[1:] - draws[0]).T
    mean, covariance = langevin_moments(operator, x0hat, y, sigma, eta, settings)
    torch.testing.assert_close(draws[0], mean, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(factor @ factor.T, covariance, rtol=1e-9, atol=1e-12)


def chance_of_more(statistic, freedom):
    """The probability that a chi-squared variable of so many degrees of freedom is greater."""
    return torch.special.gammaincc(torch.tensor(freedom / 2, dtype=float64), statistic.double() / 2).item()


@pytest.mark.parametrize("method", ["langevin", "exact"])
def test_langevin_and_the_exact_draw_have_the_same_mean_and_covariance(method):
    """4000 draws of each against the same mean and covariance. Each of the four tests fails with a chance of 1e-4
    where the distributions are equal; the seed is fixed, so it does so for ever or never."""
    operator, draws = small("kronecker"), 4000
    settings = DAPSSettings(2, 50, 4e-5, method)
    y, x0hat = measurement(operator), photo_like(1, SHAPE, float64, seed=2)
    solver = DAPS(operator, gaussian_prior(), settings)
    x = solver.sample(
        x0hat.expand(draws, *SHAPE), 0.1, 4e-5, solver.begin(y.expand(draws, *y.shape[1:])), noise_for(range(draws))
    )
    mean, covariance = langevin_moments(operator, x0hat, y, 0.1, 4e-5, settings)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), (x.flatten(1) - mean).T, upper=False)
    assert chance_of_more(draws * white.mean(1).square().sum(), N) > 1e-4
    # Elements of the sample covariance of N(0, I): variance 1 / n off the diagonal and 2 / n on it.
    error = white @ white.T / draws - torch.eye(N, dtype=float64)
    assert chance_of_more(draws / 2 * error.square().sum(), N * (N + 1) // 2) > 1e-4


def test_that_test_sees_a_wrong_variance_or_mean():
    normal = torch.randn(N, 4000, generator=torch.Generator().manual_seed(0), dtype=float64)
    error = 1.1 * normal @ normal.T / 4000 - torch.eye(N, dtype=float64)
    assert chance_of_more(2000 * error.square().sum(), N * (N + 1) // 2) < 1e-4
    assert chance_of_more(4000 * (normal.mean(1) + 0.05).square().sum(), N) < 1e-4


def test_many_small_steps_reach_the_gaussian_posterior():
    """For K to infinity and eta to 0 the covariance is (c A^T A / tau^2 + I / sigma^2)^{-1}."""
    operator, sigma, eta = small("dense"), 0.1, 1e-8
    solver = DAPS(operator, gaussian_prior(), DAPSSettings(2, 10**8, eta, "exact"))
    y, x0hat = measurement(operator), photo_like(1, SHAPE, float64, seed=2)
    units = torch.cat((torch.zeros(1, N, dtype=float64), torch.eye(N, dtype=float64))).view(-1, *SHAPE)
    draws = solver.exact(x0hat, sigma, eta, solver.begin(y), GivenNoise(units)).flatten(1)
    A, weight = matrix_of(operator), 2 / 0.01**2
    covariance = torch.linalg.inv(weight * A.T @ A + torch.eye(N, dtype=float64) / sigma**2)
    factor = (draws[1:] - draws[0]).T
    torch.testing.assert_close(factor @ factor.T, covariance, rtol=1e-3, atol=1e-7)
    posterior_mean = covariance @ (weight * A.T @ y.flatten() + x0hat.flatten() / sigma**2)
    torch.testing.assert_close(draws[0], posterior_mean, rtol=1e-6, atol=1e-6)


def test_the_probability_flow_of_a_gaussian_prior():
    """Its solution is x = mean + V sqrt((lam + s_end^2) / (lam + s^2)) V^T (x - mean); Euler's error falls as 1 / n."""
    prior, x = gaussian_prior(), 3 * photo_like(2, SHAPE, float64)
    shrink = ((prior.variances + 0.01**2) / (prior.variances + 9.0)).sqrt()
    exact = prior.mean + (((x - prior.mean).flatten(1) @ prior.vectors * shrink) @ prior.vectors.T).view_as(x)
    errors = []
    for steps in (100, 400):
        solver = DAPS(small("dense"), prior, DAPSSettings(2, 1, ode_steps=steps))
        errors.append((solver.probability_flow(x, 3.0) - exact).norm() / exact.norm())
    assert errors[1] < 0.02
    assert errors[0] > 3 * errors[1]


def test_the_probability_flow_of_the_paper_is_five_euler_steps_that_end_at_a_hundredth():
    prior, x, sigma, called = gaussian_prior(), photo_like(1, SHAPE, float64), 7.0, []

    def denoiser(x, sigma):
        called.append(sigma)
        return prior(x, sigma)

    result = DAPS(small("dense"), denoiser, DAPSSettings()).probability_flow(x, sigma)
    levels = [(sigma ** (1 / 7) + i / 5 * (0.01 ** (1 / 7) - sigma ** (1 / 7))) ** 7 for i in range(6)]
    assert called == pytest.approx(levels[:5])
    for s, s_next in pairwise(levels):
        x = x + (s_next - s) * (x - prior(x, s)) / s
    torch.testing.assert_close(result, x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", ["langevin", "hmc"])
def test_daps_with_a_gaussian_prior_follows_its_recursion_in_matrices(method):
    settings = DAPSSettings(4, 7, 2e-5, method, 0.05, 0.6 if method == "hmc" else 0.0, sigma_max=3.0, sigma_min=0.05)
    prior, operator = gaussian_prior(), small("kronecker")
    y = measurement(operator)
    result = sample(DAPS(operator, prior, settings), y, noise_for([0]))
    eps, A, sigmas = noise_for([0]), matrix_of(operator), polynomial(4, 3.0, 0.05)
    x = sigmas[0] * eps().flatten()
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        levels = [*polynomial(5, sigma, min(0.01, sigma / 10))[:-1], min(0.01, sigma / 10)]
        for s, s_next in pairwise(levels):
            x = x + (s_next - s) / s * (x - prior(x.view(1, *SHAPE), s).flatten())
        eta = 2e-5 * (1 - i / 5 * 0.95)
        x0hat, v = x, eps().flatten() if method == "hmc" else None
        for _ in range(7):
            score = -A.T @ (A @ x - y.flatten()) * 2 / 0.01**2 + (x0hat - x) / sigma**2
            if method == "hmc":
                v = 0.6 * v + eta**0.5 * score + (2 * (1 - 0.6)) ** 0.5 * eps().flatten()
                x = x + eta**0.5 * v
            else:
                x = x + eta * score + (2 * eta) ** 0.5 * eps().flatten()
        x0 = x
        x = x0 + sigma_next * eps().flatten() if sigma_next else x0
    torch.testing.assert_close(result.flatten(), x0, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", ["langevin", "hmc", "exact"])
def test_batches_equal_their_images_and_seeds_differ(method):
    operator, prior = small("dense"), gaussian_prior()
    solver, y = DAPS(operator, prior, DAPSSettings(3, 5, 2e-5, method)), measurement(operator, 3)
    whole = sample(solver, y, noise_for(range(3)))
    for i in range(3):
        alone = sample(solver, y[i : i + 1], noise_for([i]))
        torch.testing.assert_close(alone[0], whole[i], rtol=1e-10, atol=1e-10)
    assert torch.equal(sample(solver, y, noise_for(range(3))), whole)
    assert not torch.equal(sample(solver, y, noise_for(range(3), seed=1)), whole)


@pytest.mark.parametrize("task", [task for task in COLLAPSED if task in published.TABLES["daps"]])
def test_published_settings_stay_bounded(task):
    """At the low noise levels of the published annealing, where no fresh noise hides what steps too large would do.
    Langevin needs the derivative of the clip: the surrogate of HDR pushes clipped pixels without end where the noise of
    y is beyond the clip."""
    arguments = {"high_dynamic_range": {"surrogate": "autograd"}, "motion_deblurring": {"padding": "circular"}}
    shape = (1, 16, 16)
    operator = lf.operators.create(task, shape, dtype=float64, **arguments.get(task, {}))
    truth, prior, noise = photo_like(1, shape, float64), gaussian_prior(shape), noise_for([0], shape)
    y = operator.measure(truth)
    for table in ("daps", "daps_hmc"):
        if task in published.TABLES[table]:
            solver = DAPS(operator, prior, published.get(table, task))
            for index in (160, 199):
                x = noise.add(truth, solver.sigmas[index])
                assert solver.step(x, index, solver.begin(y), noise)[1].abs().max() < 3


def test_bad_requests():
    phases = lf.operators.create("phase_retrieval", (1, 16, 16), dtype=float64)
    with pytest.raises(lf.InputError, match="no known eigenbasis for the exact draw: use the method 'langevin'"):
        DAPS(phases, gaussian_prior(), DAPSSettings(method="exact"))
    for arguments, sentence in (
        ({"method": "magic"}, "unknown method 'magic'"),
        ({"inner_steps": 0}, "inner_steps must be at least 1"),
        ({"lr": 0.0}, "lr must be finite and positive"),
        ({"momentum": 1.0}, "momentum must be at least 0 and less than 1"),
    ):
        with pytest.raises(lf.InputError, match=sentence):
            DAPSSettings(**arguments)
    with pytest.raises(lf.InputError, match="no published settings of 'magic'"):
        published.get("magic", "denoising")
    with pytest.raises(lf.InputError, match="daps has no published settings for 'quantization'"):
        published.get("daps", "quantization")
