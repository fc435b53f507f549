"""PiGDM, TMPD, DDRM, DDNM and DiffPIR against the formulas of their papers, written out with matrices.

The prior is Gaussian, so that the denoiser is affine. The solvers work in the scale x0 + sigma eps; the papers of all
but DDRM in that of DDPM, a (x0 + sigma eps) with a = 1 / sqrt(1 + sigma^2), and so do the formulas here.
"""

import math
from itertools import pairwise

import pytest
import torch
from conftest import photo_like

import lmaps_fast as lf
from lmaps_fast.levels import ddpm_levels
from lmaps_fast.renoise import SAMPLER, Noise
from lmaps_fast.solvers import ddnm, ddrm, diffpir, pigdm, sample, tmpd

SHAPE, SIDE = (1, 16, 16), 16
N = SIDE * SIDE
EYE = torch.eye(N, dtype=torch.float64)
SOLVERS = {
    "pigdm": (pigdm.PiGDM, pigdm.PiGDMSettings),
    "tmpd": (tmpd.TMPD, tmpd.TMPDSettings),
    "ddrm": (ddrm.DDRM, ddrm.DDRMSettings),
    "ddnm": (ddnm.DDNM, ddnm.DDNMSettings),
    "diffpir": (diffpir.DiffPIR, diffpir.DiffPIRSettings),
}
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
        """The solver's result [B, n], and the draws and levels that the formulas need."""
        solver_of, settings_of = SOLVERS[name]
        solver = solver_of(self.operator, self.denoiser, settings_of(**settings))
        result = sample(solver, self.measured, draws(len(self.measured)))
        return result.flatten(1), solver, draws(len(self.measured))

    def first(self, solver, noise):
        return (solver.start(self.measured) + solver.sigmas[0] * noise()).flatten(1)


def draws(batch):
    return Noise(SAMPLER, 3, range(batch), SHAPE, torch.float64)


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
    solver = tmpd.TMPD(case.operator, case.denoiser, tmpd.TMPDSettings(steps=10, sigma_y=sigma_y, cg_steps=250))
    A, x = case.A, photo_like(2, SHAPE, torch.float64, seed=1)
    for index in (5, 8, 9):
        sigma = solver.sigmas[index]
        _, x0 = solver.step(x, index, solver.begin(case.measured), draws(2))
        precision = torch.linalg.inv(case.C) + EYE / sigma**2 + A.T @ A / sigma_y**2
        total = torch.linalg.solve(case.C, case.mean) + x.flatten(1) / sigma**2 + case.y @ A / sigma_y**2
        torch.testing.assert_close(x0.flatten(1), torch.linalg.solve(precision, total.T).T, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("task", LINEAR)
def test_tmpd_follows_its_paper(task):
    """DDPM's ancestral step with x0 = D + (s^2 / a) J^T A^T [(y - A D) / (sigma_y^2 + (A C A^T) 1)]."""
    case = Case(task)
    result, solver, noise = case.run("tmpd", steps=6)
    A, x = case.A, case.first(solver, noise)
    x = x * ddpm(solver.sigmas[0])[0]
    for sigma, sigma_next in pairwise(solver.sigmas):
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
    result, solver, noise = case.run("pigdm", steps=6, eta=eta, sigma_y=sigma_y)
    x = case.first(solver, noise) * ddpm(solver.sigmas[0])[0]
    if task != "quantization":
        A = case.A
    for sigma, sigma_next in pairwise(solver.sigmas):
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
    result, solver, noise = case.run("ddrm", steps=8, sigma_max=2.0, sigma_y=sigma_y, eta=eta, eta_b=eta_b)
    U, S, Vt = torch.linalg.svd(case.A)
    S = torch.cat([S, torch.zeros(N - len(S), dtype=torch.float64)])
    S = S.where(S > 1e-8, 0)
    y_bar = torch.nn.functional.pad(case.y @ U, (0, N - U.shape[1])) / S.where(S > 0, 1)
    guess, sigma_0 = case.operator.first_guess(case.measured).flatten(1) @ Vt.T, solver.sigmas[0]
    eps = noise().flatten(1) @ Vt.T
    x = guess + sigma_0 * eps
    for j, s in enumerate(S.tolist()):
        if s and sigma_y / s <= sigma_0:
            x[:, j] = y_bar[:, j] + math.sqrt(sigma_0**2 - (sigma_y / s) ** 2) * eps[:, j]
    for sigma, sigma_next in pairwise(solver.sigmas):
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
    result, solver, noise = case.run("ddnm", steps=8, sigma_y=sigma_y, eta=eta)
    A, x = case.A, case.first(solver, noise) * ddpm(solver.sigmas[0])[0]
    _, S, Vt = torch.linalg.svd(A)
    S = torch.cat([S, torch.zeros(N - len(S), dtype=torch.float64)])
    S = S.where(S > 1e-8, 0).tolist()
    pinv = torch.linalg.pinv(A, rtol=1e-8)
    for sigma, sigma_next in pairwise(solver.sigmas):
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
    result, solver, noise = case.run("diffpir", steps=8, sigma_max=2.0, lam=5.0, zeta=0.3, sigma_y=0.3)
    A, x = case.A, case.first(solver, noise) * ddpm(solver.sigmas[0])[0]
    for sigma, sigma_next in pairwise(solver.sigmas):
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
        assert diffpir.DiffPIR(operator_of(task), None).settings == settings
    assert diffpir.PUBLISHED["inpainting_box"].zeta == 1


@pytest.mark.parametrize(("name", "settings"), [*((name, {}) for name in SOLVERS), ("tmpd", {"cg_steps": 5})], ids=str)
@pytest.mark.parametrize("task", ["inpainting_random", "gaussian_deblurring"])
def test_an_image_does_not_depend_on_its_batch(task, name, settings):
    case = Case(task, batch=3)
    solver_of, settings_of = SOLVERS[name]
    solver = solver_of(case.operator, case.denoiser, settings_of(steps=5, **settings))
    whole = sample(solver, case.measured, draws(3))
    for i in range(3):
        alone = sample(solver, case.measured[i : i + 1], Noise(SAMPLER, 3, [i], SHAPE, torch.float64))
        torch.testing.assert_close(alone[0], whole[i], rtol=1e-10, atol=1e-10)
    assert not torch.equal(sample(solver, case.measured, Noise(SAMPLER, 4, range(3), SHAPE, torch.float64)), whole)


@pytest.mark.parametrize("name", ["ddrm", "ddnm"])
def test_unreadable_singular_values_do_no_harm_in_float32(name):
    """A wide blur has singular values so small that A^T y holds only rounding errors of them: taken at their word they
    would make images of several thousand."""
    operator = lf.operators.create("gaussian_deblurring", (1, 32, 32), sigma=2.0)
    y = operator.measure(photo_like(1, (1, 32, 32), torch.float32))
    solver_of, settings_of = SOLVERS[name]
    solver = solver_of(operator, lambda x, sigma: x / (1 + sigma**2), settings_of(steps=20))
    assert sample(solver, y, Noise(SAMPLER, 3, [0], (1, 32, 32))).abs().max() < 10


def test_refusals():
    def denoiser(x, sigma):
        return x

    for name, task, sentence in (
        ("pigdm", "phase_retrieval", "pigdm needs a pseudo-inverse of A, unknown for phase_retrieval: use jpeg"),
        ("tmpd", "jpeg_restoration", "tmpd needs a linear A, unlike jpeg_restoration: use denoising"),
        ("ddrm", "motion_deblurring", "unknown for motion_deblurring: use denoising.* padding='circular'"),
        ("ddnm", "quantization", "ddnm needs the singular values of A, unknown for quantization"),
        ("diffpir", "high_dynamic_range", "diffpir needs a linear A, unlike high_dynamic_range: use denoising"),
    ):
        with pytest.raises(lf.InputError, match=sentence):
            SOLVERS[name][0](operator_of(task), denoiser)
    for settings_of, wrong, sentence in (
        (pigdm.PiGDMSettings, {"eta": 1.5}, "eta must be between 0 and 1, not 1.5"),
        (ddrm.DDRMSettings, {"eta_b": -1.0}, "eta_b must be between 0 and 1, not -1.0"),
        (ddnm.DDNMSettings, {"sigma_y": -0.1}, "sigma_y must be finite and not negative, not -0.1"),
        (diffpir.DiffPIRSettings, {"lam": 0.0}, "lam must be finite and positive, not 0.0"),
        (tmpd.TMPDSettings, {"cg_steps": -1}, "cg_steps must not be negative, not -1"),
    ):
        with pytest.raises(lf.InputError, match=sentence):
            settings_of(**wrong)
    operator = operator_of("denoising")
    for steps, sigma_max in ((0, math.inf), (1001, math.inf), (5, 0.001)):
        with pytest.raises(lf.InputError, match="steps do not fit the"):
            ddnm.DDNM(operator, denoiser, ddnm.DDNMSettings(steps=steps, sigma_max=sigma_max))
    with pytest.raises(lf.InputError, match="unknown backend"):
        ddrm.DDRM(operator, denoiser, backend="gpu")
    y = torch.zeros(1, *SHAPE, dtype=torch.float64)
    with pytest.raises(lf.InputError, match="needs the gradient of the denoiser"):
        sample(pigdm.PiGDM(operator, lambda x, sigma: x.detach()), y, draws(1))
