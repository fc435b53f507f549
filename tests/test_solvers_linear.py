"""PiGDM, TMPD, DDRM, DDNM and DiffPIR against the formulas of their papers, written out with matrices.

The prior is Gaussian, so that the denoiser is affine. The solvers work in the scale x0 + sigma eps; the papers of all
but DDRM in that of DDPM, a (x0 + sigma eps) with a = 1 / sqrt(1 + sigma^2), and so do the formulas here.
"""

import math
from itertools import pairwise

import pytest
import torch
from conftest import photo_like
from solver_runs import Draws, level_of, run

import lmaps_fast as lf
from lmaps_fast.levels import ddpm_levels
from lmaps_fast.local_map import Problem
from lmaps_fast.solvers import REGISTRY, State, ddnm, ddrm, diffpir, pigdm, tmpd

pytestmark = pytest.mark.usefixtures("one_thread")
SHAPE, SIDE = (1, 16, 16), 16
N = SIDE * SIDE
EYE = torch.eye(N, dtype=torch.float64)
SOLVERS = ["pigdm", "tmpd", "ddrm", "ddnm", "diffpir"]
SPECTRAL = ["gaussian_deblurring", "inpainting_random", "super_resolution"]
LINEAR = [*SPECTRAL, "motion_deblurring"]
# Motion deblurring is solved by polynomials: to their tolerance, and over many steps.
TOLERANCE = {"motion_deblurring": 1e-5}


def operator_of(task, dtype=torch.float64):
    parameters = {"gaussian_deblurring": {"sigma": 1.0}, "inpainting_random": {"missing": 0.5}}.get(task, {})
    operator = lf.operators.create(task, SHAPE, dtype=dtype, **parameters)
    operator.tolerance = 1e-7  # of the polynomials of motion deblurring
    return operator


class Case:
    """An operator as the matrix A, a measurement y [B, m], and the prior as D(x) = mean + G(sigma) (x - mean)."""

    def __init__(self, task, batch=2):
        self.operator = operator_of(task)
        self.measured = self.operator.measure(photo_like(batch, SHAPE, torch.float64))
        self.y = self.measured.flatten(1)
        generator = torch.Generator().manual_seed(0)
        factor = torch.randn(N, N, generator=generator, dtype=torch.float64) / SIDE
        self.C = 0.1 * factor @ factor.T + 0.01 * EYE
        self.mean = 0.1 * torch.randn(N, generator=generator, dtype=torch.float64)
        self.denoiser = lf.denoisers.Gaussian(self.mean.view(SHAPE), self.C)

    @property
    def A(self):
        return self.operator(EYE.view(N, *SHAPE)).flatten(1).T

    def G(self, sigma):
        return self.C @ torch.linalg.inv(self.C + sigma**2 * EYE)

    def D(self, x, sigma):
        return self.mean + (x - self.mean) @ self.G(sigma).T

    def run(self, name, **settings):
        """The solver's result [B, n], and the levels and draws that the formulas need."""
        given = REGISTRY[name].Settings(**settings)
        result = run(name, self.operator, self.denoiser, given, self.measured, seed=3)
        sigmas = REGISTRY[name](self.operator, self.denoiser).sigmas(given)
        return result.flatten(1), sigmas, Draws(range(len(self.measured)), SHAPE, seed=3)

    def first(self, sigmas, noise):
        return (Problem(self.operator, self.measured).guess + sigmas[0] * noise()).flatten(1)


def ddpm(sigma):
    """a and s of a level: x_t = a x0 + s eps, a^2 + s^2 = 1."""
    return (1 + sigma**2) ** -0.5, sigma * (1 + sigma**2) ** -0.5


def test_levels_are_those_of_ddpm():
    levels = ddpm_levels(1000)
    assert len(levels) == 1001
    assert levels[-1] == 0
    assert levels[-2] == pytest.approx(math.sqrt(1 / 0.9999 - 1))
    assert levels[0] == pytest.approx(157.4, abs=0.1)
    every = ddpm_levels(20)
    assert every[:-1] == levels[:-1][49::50]  # timesteps 950, 900 ... 0
    quadratic = ddpm_levels(100, quadratic=True)
    assert quadratic[0] == levels[0]
    assert quadratic[1] == levels[999 - 994]  # int(1000 sqrt(98 / 99))
    assert quadratic[-2] == levels[-2]
    assert all(a > b for a, b in pairwise(quadratic))
    assert ddpm_levels(10, sigma_max=2.0)[0] <= 2.0


@pytest.mark.parametrize("task", LINEAR)
def test_tmpd_finds_the_posterior_mean_of_a_gaussian_prior(task):
    case, sigma_y = Case(task), 0.2
    solver, settings = tmpd.TMPD(case.operator, case.denoiser), tmpd.TMPDSettings(10, sigma_y=sigma_y, cg_steps=250)
    A, x = case.A, photo_like(2, SHAPE, torch.float64, seed=1)
    for index in (5, 8, 9):
        level = level_of(solver, case.operator, settings, index, x)
        sigma = level.sigma.item()
        with torch.no_grad():
            x0 = solver.step(Problem(case.operator, case.measured), State(x, x), level).x0
        precision = torch.linalg.inv(case.C) + EYE / sigma**2 + A.T @ A / sigma_y**2
        total = torch.linalg.solve(case.C, case.mean) + x.flatten(1) / sigma**2 + case.y @ A / sigma_y**2
        torch.testing.assert_close(x0.flatten(1), torch.linalg.solve(precision, total.T).T, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("task", LINEAR)
def test_tmpd_follows_its_paper(task):
    """DDPM's ancestral step with x0 = D + (s^2 / a) J^T A^T [(y - A D) / (sigma_y^2 + (A C A^T) 1)]."""
    case = Case(task)
    result, sigmas, noise = case.run("tmpd", steps=6)
    A, x = case.A, case.first(sigmas, noise)
    x = x * ddpm(sigmas[0])[0]
    for sigma, sigma_next in pairwise(sigmas):
        (a, s), (a_next, s_next) = ddpm(sigma), ddpm(sigma_next)
        D, J, gamma = case.D(x / a, sigma), case.G(sigma) / a, s**2 / a
        variance = (0.05**2 + (A @ (gamma * J) @ A.T).sum(1)).clamp(min=0.05**2)
        x0 = D + gamma * ((case.y - D @ A.T) / variance) @ A @ J
        if sigma_next:
            alpha = (a / a_next) ** 2
            mean = a_next * (1 - alpha) / s**2 * x0 + math.sqrt(alpha) * s_next**2 / s**2 * x
            x = mean + s_next / s * math.sqrt(1 - alpha) * noise().flatten(1)
    torch.testing.assert_close(result, x0, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("task", "eta"), [*((task, 1.0) for task in LINEAR), *(("quantization", e) for e in (0, 0.6))])
def test_pigdm_follows_its_paper(task, eta):
    """x_s = a' x0 + c1 eps + c2 epshat + a a' J^T vec, with J the Jacobian in DDPM's scale."""
    case, sigma_y = Case(task), 0.3
    result, sigmas, noise = case.run("pigdm", steps=6, eta=eta, sigma_y=sigma_y)
    x = case.first(sigmas, noise) * ddpm(sigmas[0])[0]
    if task != "quantization":
        A = case.A
    for sigma, sigma_next in pairwise(sigmas):
        (a, s), (a_next, s_next) = ddpm(sigma), ddpm(sigma_next)
        D, J = case.D(x / a, sigma), case.G(sigma) / a
        if task == "quantization":
            vec = case.y - case.operator(D.view_as(case.measured)).flatten(1)
        else:
            inner = A @ A.T + sigma_y**2 * (sigma**2 + 1) / sigma**2 * torch.eye(len(A), dtype=torch.float64)
            vec = torch.linalg.solve(inner, (case.y - D @ A.T).T).T @ A
        c1 = eta * math.sqrt((1 - (a / a_next) ** 2) * s_next**2 / s**2)
        c2 = math.sqrt(s_next**2 - c1**2)
        x = a_next * D + c2 * (x - a * D) / s + a * a_next * vec @ J
        if c1:
            x = x + c1 * noise().flatten(1)
    torch.testing.assert_close(result, x, rtol=0, atol=TOLERANCE.get(task, 1e-9))


@pytest.mark.parametrize("sigma_y", [0.0, 0.05, 0.4])
@pytest.mark.parametrize("task", SPECTRAL)
def test_ddrm_follows_its_paper(task, sigma_y):
    """Every singular direction on its own, in the three cases of the paper."""
    case, eta, eta_b = Case(task), 0.85, 0.9
    result, sigmas, noise = case.run("ddrm", steps=8, sigma_max=2.0, sigma_y=sigma_y, eta=eta, eta_b=eta_b)
    U, S, Vt = torch.linalg.svd(case.A)
    S = torch.cat([S, torch.zeros(N - len(S), dtype=torch.float64)])
    S = S.where(S > 1e-8, 0)
    y_bar = torch.nn.functional.pad(case.y @ U, (0, N - U.shape[1])) / S.where(S > 0, 1)
    guess, sigma_0 = case.operator.first_guess(case.measured).flatten(1) @ Vt.T, sigmas[0]
    eps = noise().flatten(1) @ Vt.T
    x = guess + sigma_0 * eps
    for j, s in enumerate(S.tolist()):
        if s and sigma_y / s <= sigma_0:
            x[:, j] = y_bar[:, j] + math.sqrt(sigma_0**2 - (sigma_y / s) ** 2) * eps[:, j]
    for sigma, sigma_next in pairwise(sigmas):
        x0, eps = case.D(x @ Vt, sigma) @ Vt.T, noise().flatten(1) @ Vt.T
        kept, fresh = math.sqrt(1 - eta**2) * sigma_next, eta * sigma_next * eps
        following = x0 + kept * (x - x0) / sigma + fresh
        for j, s in enumerate(S.tolist()):
            if s and sigma_next < sigma_y / s:
                following[:, j] = x0[:, j] + kept * (y_bar[:, j] - x0[:, j]) / (sigma_y / s) + fresh[:, j]
            elif s:
                spread = math.sqrt(sigma_next**2 - (eta_b * sigma_y / s) ** 2)
                following[:, j] = (1 - eta_b) * x0[:, j] + eta_b * y_bar[:, j] + spread * eps[:, j]
        x = following
    torch.testing.assert_close(result, x @ Vt, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("sigma_y", [0.0, 0.05, 0.4])
@pytest.mark.parametrize("task", SPECTRAL)
def test_ddnm_follows_its_paper(task, sigma_y):
    """x0 + l A^+ (y - A x0), and gamma beside it, for each singular direction; in DDPM's scale."""
    case, eta = Case(task), 0.85
    result, sigmas, noise = case.run("ddnm", steps=8, sigma_y=sigma_y, eta=eta)
    A, x = case.A, case.first(sigmas, noise) * ddpm(sigmas[0])[0]
    _, S, Vt = torch.linalg.svd(A)
    S = torch.cat([S, torch.zeros(N - len(S), dtype=torch.float64)])
    S = S.where(S > 1e-8, 0).tolist()
    pinv = torch.linalg.pinv(A, rtol=1e-8)
    for sigma, sigma_next in pairwise(sigmas):
        (a, s), (a_next, s_next) = ddpm(sigma), ddpm(sigma_next)
        D = case.D(x / a, sigma)
        share, gamma = torch.ones(2, N, dtype=torch.float64)
        kept, gamma = math.sqrt(1 - eta**2), s_next * gamma
        alone = torch.zeros(N, dtype=torch.float64)  # fresh noise without the noise that x had
        for j, value in enumerate(S):
            if value and s_next >= a_next * sigma_y / value:
                gamma[j] = math.sqrt(s_next**2 - (a_next * sigma_y / value) ** 2)
            elif value:
                share[j], gamma[j], alone[j] = kept * s_next * value / (a_next * sigma_y), 0, eta * s_next
        x0 = D + (case.y - D @ A.T) @ pinv.T @ Vt.T @ share.diag() @ Vt
        if sigma_next:
            fresh = noise().flatten(1)
            eps = eta * fresh + kept * (x - a * D) / s
            x = a_next * x0 + eps @ Vt.T @ gamma.diag() @ Vt + fresh @ Vt.T @ alone.diag() @ Vt
    torch.testing.assert_close(result, x0, rtol=1e-7, atol=1e-7)
    if sigma_y == 0:
        fitting = case.y @ pinv.T @ A.T  # y without its noise where A measures nothing
        torch.testing.assert_close(result @ A.T, fitting, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("task", LINEAR)
def test_diffpir_follows_its_paper(task):
    case = Case(task)
    result, sigmas, noise = case.run("diffpir", steps=8, sigma_max=2.0, lam=5.0, zeta=0.3, sigma_y=0.3)
    A, x = case.A, case.first(sigmas, noise) * ddpm(sigmas[0])[0]
    for sigma, sigma_next in pairwise(sigmas):
        (a, s), (a_next, s_next) = ddpm(sigma), ddpm(sigma_next)
        rho = 5.0 * 0.3**2 / sigma**2
        total = case.y @ A + rho * case.D(x / a, sigma)
        x0 = torch.linalg.solve(A.T @ A + rho * EYE, total.T).T
        if sigma_next:
            eps = (x - a * x0) / s
            x = a_next * x0 + s_next * (math.sqrt(0.7) * eps + math.sqrt(0.3) * noise().flatten(1))
    torch.testing.assert_close(result, x0, rtol=0, atol=TOLERANCE.get(task, 1e-9))


def test_diffpir_has_published_settings_for_each_task():
    for task, settings in diffpir.PUBLISHED.items():
        assert lf.Restorer(operator_of(task), lambda x, sigma: x, "diffpir").settings == [settings]
    assert diffpir.PUBLISHED["inpainting_box"].zeta == 1


@pytest.mark.parametrize(("name", "settings"), [*((name, {}) for name in SOLVERS), ("tmpd", {"cg_steps": 5})], ids=str)
@pytest.mark.parametrize("task", ["inpainting_random", "gaussian_deblurring"])
def test_an_image_does_not_depend_on_its_batch(task, name, settings):
    case = Case(task, batch=3)
    problem = name, case.operator, case.denoiser, REGISTRY[name].Settings(steps=5, **settings)
    whole = run(*problem, case.measured, seed=3)
    for i in range(3):
        alone = run(*problem, case.measured[i : i + 1], [i], seed=3)
        torch.testing.assert_close(alone[0], whole[i], rtol=1e-10, atol=1e-10)
    assert not torch.equal(run(*problem, case.measured, seed=4), whole)


@pytest.mark.parametrize("name", ["ddrm", "ddnm"])
def test_unreadable_singular_values_do_no_harm_in_float32(name):
    """A wide blur has singular values so small that A^T y holds only rounding errors of them: taken at their word they
    would make images of several thousand."""
    operator = lf.operators.create("gaussian_deblurring", (1, 32, 32), sigma=2.0)
    y = operator.measure(photo_like(1, (1, 32, 32), torch.float32))
    settings = REGISTRY[name].Settings(steps=20)
    assert run(name, operator, lambda x, sigma: x / (1 + sigma**2), settings, y, seed=3).abs().max() < 10


def test_refusals():
    def denoiser(x, sigma):
        return x

    for name, task, sentence in (
        ("pigdm", "phase_retrieval", "or a pseudo-inverse of A, which phase_retrieval does not have: use .*jpeg_rest"),
        ("tmpd", "jpeg_restoration", "tmpd needs a linear A with its adjoint, which jpeg_restoration does not have"),
        (
            "ddrm",
            "motion_deblurring",
            "ddrm needs the singular values of A, which motion_deblurring does not have: use",
        ),
        (
            "ddnm",
            "quantization",
            "ddnm needs the singular values of A, which quantization does not have: use super_res",
        ),
        ("diffpir", "high_dynamic_range", "diffpir needs the proximal map of the data term, which high_dynamic_range"),
    ):
        with pytest.raises(lf.InputError, match=sentence):
            REGISTRY[name](operator_of(task), denoiser)
    for settings_of, wrong, sentence in (
        (pigdm.PiGDMSettings, {"eta": 1.5}, "eta must be between 0 and 1, not 1.5"),
        (ddrm.DDRMSettings, {"eta_b": -1.0}, "eta_b must be between 0 and 1, not -1.0"),
        (ddnm.DDNMSettings, {"sigma_y": -0.1}, "sigma_y must be finite and not negative, not -0.1"),
        (diffpir.DiffPIRSettings, {"lam": 0.0}, "lam must be finite and positive, not 0.0"),
        (tmpd.TMPDSettings, {"cg_steps": -1}, "cg_steps must be a whole number, at least 0, not -1"),
    ):
        with pytest.raises(lf.InputError, match=sentence):
            settings_of(**wrong)
    operator = operator_of("denoising")
    with pytest.raises(lf.InputError, match="steps must be a whole number, at least 1, not 0"):
        ddnm.DDNMSettings(steps=0)
    for steps, sigma_max in ((1001, math.inf), (5, 0.001)):
        with pytest.raises(lf.InputError, match="steps do not fit the"):
            lf.Restorer(operator, denoiser, "ddnm", steps=steps, sigma_max=sigma_max)
    with pytest.raises(lf.InputError, match="unknown backend"):
        lf.Restorer(operator, denoiser, "ddrm", backend="gpu")
    y = torch.zeros(1, *SHAPE, dtype=torch.float64)
    with pytest.raises(lf.InputError, match="needs the gradient of the denoiser"):
        run("pigdm", operator, lambda x, sigma: x.detach(), pigdm.PiGDMSettings(), y)
