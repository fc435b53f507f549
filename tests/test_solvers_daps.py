"""DAPS: its Langevin and Hamiltonian steps against matrices, and the exact draw against Langevin's distribution."""

import math
from itertools import pairwise

import pytest
import torch
from conftest import COLLAPSED, photo_like
from solver_runs import Draws, gaussian_prior, level_of, run

import lmaps_fast as lf
from lmaps_fast import local_map
from lmaps_fast.levels import polynomial
from lmaps_fast.local_map import Problem
from lmaps_fast.operators import structures
from lmaps_fast.solvers import State
from lmaps_fast.solvers.daps import DAPS, PUBLISHED, PUBLISHED_HMC, DAPSSettings

pytestmark = pytest.mark.usefixtures("one_thread")
SHAPE = (1, 3, 4)
N = math.prod(SHAPE)
float64 = torch.float64


PRIOR = gaussian_prior(SHAPE)


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


def settings_at(sigma, **arguments):
    """Settings whose first step has the noise level sigma and the step size lr."""
    return DAPSSettings(2, sigma_max=sigma, sigma_min=sigma / 2, **arguments)


def exact_draws(operator, x0hat, y, settings):
    """The exact draw for no noise and for each unit vector of noise: its mean, and the matrix of eps to x0."""
    units = torch.cat((torch.zeros(1, N, dtype=float64), torch.eye(N, dtype=float64))).view(-1, *SHAPE)
    solver, x0hat = DAPS(operator, PRIOR), x0hat.expand_as(units)
    level = level_of(solver, operator, settings, 0, x0hat)
    level.normal = lambda like: units
    problem = Problem(operator, y.expand(len(units), *y.shape[1:]).contiguous())
    draws = solver.exact(problem, x0hat, level).flatten(1)
    return draws[0], (draws[1:] - draws[0]).T


@pytest.mark.parametrize("sigma", [0.05, 2.0])
@pytest.mark.parametrize("kind", ["diagonal", "fourier", "kronecker", "dense"])
def test_the_exact_draw_has_the_moments_of_the_langevin_recursion(kind, sigma):
    """Draws of the unit vectors give the matrix of the affine map from eps to x0, so its covariance without chance."""
    operator, settings = small(kind), settings_at(sigma, inner_steps=13, lr=4e-5, method="exact")
    y, x0hat = measurement(operator), photo_like(1, SHAPE, float64, seed=2)
    first, factor = exact_draws(operator, x0hat, y, settings)
    mean, covariance = langevin_moments(operator, x0hat, y, sigma, 4e-5, settings)
    torch.testing.assert_close(first, mean, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(factor @ factor.T, covariance, rtol=1e-9, atol=1e-12)


def chance_of_more(statistic, freedom):
    """The probability that a chi-squared variable of so many degrees of freedom is greater."""
    return torch.special.gammaincc(torch.tensor(freedom / 2, dtype=float64), statistic.double() / 2).item()


@pytest.mark.parametrize("method", ["langevin", "exact"])
def test_langevin_and_the_exact_draw_have_the_same_mean_and_covariance(method, monkeypatch):
    """4000 draws of each against the same mean and covariance. Each of the four tests fails with a chance of 1e-4
    where the distributions are equal; the seed is fixed, so it does so for ever or never."""
    monkeypatch.setattr(local_map, "ByImage", lambda operator: operator)  # 4000 images one by one would take a minute
    operator, draws = small("kronecker"), 4000
    settings = settings_at(0.1, inner_steps=50, lr=4e-5, method=method)
    y, x0hat = measurement(operator), photo_like(1, SHAPE, float64, seed=2)
    solver, x0hat = DAPS(operator, PRIOR), x0hat.expand(draws, *SHAPE).contiguous()
    level = level_of(solver, operator, settings, 0, x0hat)
    x = getattr(solver, method)(Problem(operator, y.expand(draws, *y.shape[1:]).contiguous()), x0hat, level)
    x0hat = x0hat[:1]
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
    operator, sigma = small("dense"), 0.1
    y, x0hat = measurement(operator), photo_like(1, SHAPE, float64, seed=2)
    settings = settings_at(sigma, inner_steps=10**8, lr=1e-8, method="exact")
    first, factor = exact_draws(operator, x0hat, y, settings)
    A, weight = matrix_of(operator), 2 / 0.01**2
    covariance = torch.linalg.inv(weight * A.T @ A + torch.eye(N, dtype=float64) / sigma**2)
    torch.testing.assert_close(factor @ factor.T, covariance, rtol=1e-3, atol=1e-7)
    posterior_mean = covariance @ (weight * A.T @ y.flatten() + x0hat.flatten() / sigma**2)
    torch.testing.assert_close(first, posterior_mean, rtol=1e-6, atol=1e-6)


def flow(prior, x, settings):
    operator = small("dense")
    solver = DAPS(operator, prior)
    return solver.probability_flow(x, level_of(solver, operator, settings, 0, x))


def test_the_probability_flow_of_a_gaussian_prior():
    """Its solution is x = mean + V sqrt((lam + s_end^2) / (lam + s^2)) V^T (x - mean); Euler's error falls as 1 / n."""
    prior, x = PRIOR, 3 * photo_like(2, SHAPE, float64)
    shrink = ((prior.variances + 0.01**2) / (prior.variances + 9.0)).sqrt()
    exact = prior.mean + (((x - prior.mean).flatten(1) @ prior.vectors * shrink) @ prior.vectors.T).view_as(x)
    errors = []
    for steps in (100, 400):
        errors.append((flow(prior, x, settings_at(3.0, ode_steps=steps)) - exact).norm() / exact.norm())
    assert errors[1] < 0.02
    assert errors[0] > 3 * errors[1]


def test_the_probability_flow_of_the_paper_is_five_euler_steps_that_end_at_a_hundredth():
    prior, x, sigma, called = PRIOR, photo_like(1, SHAPE, float64), 7.0, []

    def denoiser(x, sigma):
        called.append(sigma)
        return prior(x, sigma)

    result = flow(denoiser, x, settings_at(sigma))
    levels = [(sigma ** (1 / 7) + i / 5 * (0.01 ** (1 / 7) - sigma ** (1 / 7))) ** 7 for i in range(6)]
    assert called == pytest.approx(levels[:5])
    for s, s_next in pairwise(levels):
        x = x + (s_next - s) * (x - prior(x, s)) / s
    torch.testing.assert_close(result, x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", ["langevin", "hmc"])
def test_daps_with_a_gaussian_prior_follows_its_recursion_in_matrices(method):
    settings = DAPSSettings(4, 7, 2e-5, method, 0.05, 0.6 if method == "hmc" else 0.0, sigma_max=3.0, sigma_min=0.05)
    prior, operator = PRIOR, small("kronecker")
    y = measurement(operator)
    result = run("daps", operator, prior, settings, y)
    eps, A, sigmas = Draws([0], SHAPE), matrix_of(operator), polynomial(4, 3.0, 0.05)
    x = sigmas[0] * eps().flatten()
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        levels = [*polynomial(5, sigma, min(0.01, sigma / 10))[:-1], min(0.01, sigma / 10)]
        for s, s_next in pairwise(levels):
            x = x + (s_next - s) / s * (x - prior(x.view(1, *SHAPE), s).flatten())
        eta = 2e-5 * (1 - i / 5 * 0.95)
        eps.number = 1 + i * DAPS.draws
        x0hat, v = x, eps().flatten() if method == "hmc" else None
        for _ in range(7):
            score = -A.T @ (A @ x - y.flatten()) * 2 / 0.01**2 + (x0hat - x) / sigma**2
            if method == "hmc":
                v = 0.6 * v + eta**0.5 * score + (2 * (1 - 0.6)) ** 0.5 * eps().flatten()
                x = x + eta**0.5 * v
            else:
                x = x + eta * score + (2 * eta) ** 0.5 * eps().flatten()
        x0 = x
        x = x0 + sigma_next * eps.at((i + 1) * DAPS.draws).flatten() if sigma_next else x0
    torch.testing.assert_close(result.flatten(), x0, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", ["langevin", "hmc", "exact"])
def test_batches_equal_their_images_and_seeds_differ(method):
    operator, settings = small("dense"), DAPSSettings(3, 5, 2e-5, method)
    y = measurement(operator, 3)
    whole = run("daps", operator, PRIOR, settings, y)
    for i in range(3):
        alone = run("daps", operator, PRIOR, settings, y[i : i + 1], images=[i])
        torch.testing.assert_close(alone[0], whole[i], rtol=1e-10, atol=1e-10)
    assert torch.equal(run("daps", operator, PRIOR, settings, y), whole)
    assert not torch.equal(run("daps", operator, PRIOR, settings, y, seed=1), whole)


@pytest.mark.parametrize("task", [task for task in COLLAPSED if task in PUBLISHED])
def test_published_settings_stay_bounded(task):
    """At the low noise levels of the published annealing, where no fresh noise hides what steps too large would do.
    Langevin needs the derivative of the clip: the surrogate of HDR pushes clipped pixels without end where the noise of
    y is beyond the clip."""
    arguments = {"high_dynamic_range": {"surrogate": "autograd"}, "motion_deblurring": {"padding": "circular"}}
    shape = (1, 16, 16)
    operator = lf.operators.create(task, shape, dtype=float64, **arguments.get(task, {}))
    truth, solver, noise = photo_like(1, shape, float64), DAPS(operator, gaussian_prior(shape)), Draws([0], shape)
    problem = Problem(operator, operator.measure(truth))
    for table in (PUBLISHED, PUBLISHED_HMC):
        if task in table:
            for index in (160, 199):
                level = level_of(solver, operator, table[task], index, truth)
                x = truth + level.sigma * noise()
                assert solver.step(problem, State(x, x), level).x0.abs().max() < 3


def test_bad_requests():
    phases = lf.operators.create("phase_retrieval", (1, 16, 16), dtype=float64)
    sentence = "exact draw of daps needs the singular values of A, which phase_retrieval does not have: use super_res"
    with pytest.raises(lf.InputError, match=sentence):
        lf.Restorer(phases, PRIOR, "daps", method="exact")
    for arguments, sentence in (
        ({"method": "magic"}, "unknown method 'magic'"),
        ({"inner_steps": 0}, "inner_steps must be a whole number, at least 1"),
        ({"lr": 0.0}, "lr must be finite and positive"),
        ({"momentum": 1.0}, "momentum must be at least 0 and less than 1"),
    ):
        with pytest.raises(lf.InputError, match=sentence):
            DAPSSettings(**arguments)
    with pytest.raises(lf.InputError, match="daps has no published settings for 'quantization'"):
        DAPS.published("quantization")
