"""DPS and SITCOM against their own recursions, written in the scale of DDPM as in the papers."""

import math

import pytest
import torch
from conftest import photo_like
from solver_runs import Draws, gaussian_prior, level_of, run

import lmaps_fast as lf
from lmaps_fast.local_map import Problem
from lmaps_fast.operators import structures
from lmaps_fast.solvers.dps import DPS, DPSSettings
from lmaps_fast.solvers.sitcom import SITCOM, SITCOMSettings

pytestmark = pytest.mark.usefixtures("one_thread")
SHAPE = (1, 3, 4)
N = math.prod(SHAPE)
float64 = torch.float64
ABAR = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=float64)).cumprod(0)


def dense():
    generator = torch.Generator().manual_seed(1)
    return structures.Dense(SHAPE, torch.rand(5, N, generator=generator, dtype=float64) / 4, dtype=float64)


def measurement(operator, batch=1, **arguments):
    return operator.measure(photo_like(batch, operator.shape, float64), **arguments)


def test_noise_levels_are_ddpms():
    operator, prior = dense(), gaussian_prior(SHAPE)
    sigmas = ((1 - ABAR) / ABAR).sqrt().flip(0).tolist()
    assert sigmas[0] == pytest.approx(157.407, rel=1e-4)
    assert DPS(operator, prior).sigmas(DPSSettings()) == pytest.approx([*sigmas, 0.0])
    assert SITCOM(operator, prior).sigmas(SITCOMSettings()) == pytest.approx([*sigmas[49::50], 0.0])


def test_dps_with_a_gaussian_prior_follows_its_recursion_in_matrices():
    """x_{t-1} of DDPM's posterior, then the gradient of the norm through the clipped posterior mean, all by hand."""
    prior, operator, zeta, steps = gaussian_prior(SHAPE, scale=0.5), dense(), 0.4, 12
    y = 3 * measurement(operator)  # far enough for some clipping
    result = run("dps", operator, prior, DPSSettings(steps, scale=zeta), y)
    A, eps, identity = operator.matrix[0], Draws([0], SHAPE), torch.eye(N, dtype=float64)
    mean, C = prior.mean.flatten(), prior.vectors @ torch.diag(prior.variances) @ prior.vectors.T
    timesteps = [i * 1000 // steps for i in reversed(range(steps))]
    abar = ABAR[timesteps[0]]
    x, clipped = (1 - abar).sqrt() * eps().flatten(), 0
    for i, t in enumerate(timesteps):
        abar = ABAR[t]
        abar_next = ABAR[timesteps[i + 1]] if i + 1 < steps else torch.ones((), dtype=float64)
        alpha = abar / abar_next
        beta = 1 - alpha
        J = abar.sqrt() * C @ torch.linalg.inv(abar * C + (1 - abar) * identity)  # of E[x0 | x_t]
        D = mean + J @ (x - abar.sqrt() * mean)
        x0, inside = D.clamp(-1, 1), (D.abs() <= 1).double()
        clipped += int((1 - inside).sum())
        r = A @ x0 - y.flatten()
        gradient = J.T @ (inside * (A.T @ r)) / r.norm()
        x = (abar_next.sqrt() * beta * x0 + alpha.sqrt() * (1 - abar_next) * x) / (1 - abar)
        if i + 1 < steps:
            x = x + (beta * (1 - abar_next) / (1 - abar)).sqrt() * eps().flatten()
        x = x - zeta * gradient
    assert clipped > 0
    torch.testing.assert_close(result.flatten(), x, rtol=1e-9, atol=1e-9)


def test_dps_takes_the_gradient_of_the_norm_through_the_network():
    prior, operator = gaussian_prior((1, 16, 16)), lf.operators.create("phase_retrieval", (1, 16, 16), dtype=float64)
    y, x = measurement(operator, 2), photo_like(2, (1, 16, 16), float64, seed=3)
    solver = DPS(operator, prior)
    level = level_of(solver, operator, DPSSettings(), 700, x)
    with torch.no_grad():
        x0, gradient = solver.guided(Problem(operator, y), x, level)
    x.requires_grad_()
    D = prior(x, level.sigma.item()).clamp(-1, 1)
    norms = (y - operator(D)).flatten(1).norm(dim=1)
    (expected,) = torch.autograd.grad(norms.sum(), x)
    torch.testing.assert_close(x0, D.detach())
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)
    assert not x0.requires_grad


def adam_by_hand(operator, prior, y, settings, noise, timesteps):
    """SITCOM for one image, in the scale of DDPM, by torch's Adam and autograd. Also: the number of
    updates at each t, and of pixels that were clipped."""
    x, updates, clipped = (1 - ABAR[timesteps[0]]).sqrt() * noise(), [], 0
    for i, t in enumerate(timesteps):
        a, s = ABAR[t].sqrt(), (1 - ABAR[t]).sqrt()
        z = x.clone().requires_grad_()
        optimizer, done = torch.optim.Adam([z], settings.lr), 0
        for _ in range(settings.inner_steps):
            x0 = prior(z / a, (s / a).item()).clamp(-1, 1)
            clipped += int((x0.abs() == 1).sum())
            loss = (operator(x0) - y).square().sum()
            if loss < (settings.sigma_y + 0.001) ** 2 * y.numel():
                break
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
        x0 = x0.detach()
        if settings.project:
            x0 = (x0 - operator.adjoint(operator(x0) - y)).clamp(-1, 1)
        updates.append(done)
        if i + 1 < len(timesteps):
            x = ABAR[timesteps[i + 1]].sqrt() * x0 + (1 - ABAR[timesteps[i + 1]]).sqrt() * noise()
    return x0, updates, clipped


@pytest.mark.parametrize("project", [False, True])
def test_sitcom_follows_torchs_adam_for_each_image(project):
    """Three images of one batch, which stop after different numbers of updates, against three loops of their own."""
    prior, operator = gaussian_prior(SHAPE, scale=0.5), dense()
    settings = SITCOMSettings(4, inner_steps=12, lr=0.05, sigma_y=0.06, project=project)
    y = measurement(operator, 3, noise=0.06) * torch.tensor([[1.0], [2.0], [20.0]])  # the last one: far into the clip
    whole, counts = run("sitcom", operator, prior, settings, y), []
    for i in range(3):
        draws = Draws([i], SHAPE)
        alone, updates, clipped = adam_by_hand(operator, prior, y[i : i + 1], settings, draws, [750, 500, 250, 0])
        torch.testing.assert_close(whole[i], alone[0], rtol=1e-8, atol=1e-8)
        counts.append(updates)
    assert any(len(set(of_one_t)) > 1 for of_one_t in zip(*counts, strict=True))
    assert any(0 < n < 12 for updates in counts for n in updates)
    assert clipped > 0
    assert any(n == 12 for updates in counts for n in updates)


def test_sitcom_calls_the_network_n_times_k():
    calls, prior, operator = [], gaussian_prior(SHAPE), dense()

    def denoiser(x, sigma):
        calls.append(x.requires_grad)
        return prior(x, sigma)

    run("sitcom", operator, denoiser, SITCOMSettings(3, inner_steps=5, sigma_y=0.0), measurement(operator))
    assert calls == 3 * [True, True, True, True, False]


def test_sitcom_with_projection_keeps_what_is_known():
    shape = (1, 16, 16)
    operator = lf.operators.create("inpainting_box", shape, dtype=float64)
    y = measurement(operator)
    settings = SITCOM.published("inpainting_box")
    assert settings.project
    x = run("sitcom", operator, gaussian_prior(shape), settings, y)
    torch.testing.assert_close(operator.mask * x, y.clamp(-1, 1) * operator.mask)
    assert not SITCOM.published("super_resolution").project


@pytest.mark.parametrize("name", ["dps", "sitcom"])
def test_batches_equal_their_images_and_seeds_differ(name):
    settings = DPSSettings(5) if name == "dps" else SITCOMSettings(5, inner_steps=4)
    case = name, dense(), gaussian_prior(SHAPE), settings
    y = measurement(case[1], 3)
    whole = run(*case, y)
    for i in range(3):
        torch.testing.assert_close(run(*case, y[i : i + 1], images=[i])[0], whole[i], rtol=1e-9, atol=1e-9)
    assert torch.equal(run(*case, y), whole)
    assert not torch.equal(run(*case, y, seed=1), whole)


@pytest.mark.parametrize("task", ["jpeg_restoration", "quantization"])
@pytest.mark.parametrize("name", ["dps", "sitcom"])
def test_surrogate_gradients_are_used_where_there_is_no_other(name, task):
    shape = (3, 16, 16)
    operator = lf.operators.create(task, shape, dtype=float64)
    settings = DPSSettings(60, scale=1.0) if name == "dps" else SITCOMSettings(5, inner_steps=10, lr=0.05)
    y, prior = measurement(operator), gaussian_prior(shape)
    fitted = run(name, operator, prior, settings, y)
    assert (operator(fitted) - y).norm() < 0.8 * (operator(prior.mean[None]) - y).norm()


@pytest.mark.parametrize("name", ["dps", "sitcom"])
def test_the_embedded_prior_gives_its_gradient(name):
    shape = (3, 16, 16)
    operator = lf.operators.create("super_resolution", shape)
    y = operator.measure(photo_like(1, shape, torch.float32))
    settings = DPSSettings(30, scale=5.0) if name == "dps" else SITCOMSettings(5, inner_steps=8)
    prior = lf.denoisers.load("natural", dtype=torch.float32)
    x = run(name, operator, prior, settings, y)
    assert not x.requires_grad
    assert (operator(x) - y).norm() < 0.7 * y.norm()  # of a grey image


def test_bad_settings():
    for settings, arguments, sentence in (
        (DPSSettings, {"scale": -1.0}, "scale must be finite and not negative"),
        (DPSSettings, {"sigma_y": 0.1}, "dps does not use the noise of y: leave sigma_y out"),
        (SITCOMSettings, {"inner_steps": 0}, "inner_steps must be a whole number, at least 1"),
        (SITCOMSettings, {"lr": 0.0}, "lr must be finite and positive"),
        (SITCOMSettings, {"sigma_y": -0.1}, "sigma_y must be finite and not negative"),
    ):
        with pytest.raises(lf.InputError, match=sentence):
            settings(**arguments)
