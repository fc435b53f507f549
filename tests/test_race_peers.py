"""Solvers of deepinv and azula through their adapters, with the exact denoiser of a Gaussian prior."""

import sys

import numpy
import pytest
import torch
from conftest import importable_torchvision

import lmaps_fast as lf
from lmaps_fast.race.peers import Peer, peers
from lmaps_fast.race.peers_adapters import LinearPart, Prior

SHAPE, N, STEPS = (1, 16, 16), 256, 100
DTYPE = torch.float64
EYE = torch.eye(N, dtype=DTYPE)
PARAMETERS = {"inpainting_random": {"missing": 0.5}, "gaussian_deblurring": {"sigma": 1.0}}
PEERS = ["deepinv DPS", "deepinv DDRM", "deepinv DiffPIR", "azula DPS", "azula PiGDM", "azula DiffPIR", "azula TMPD"]
# Of what a solver may be away from the posterior mean, over the standard deviation of the posterior plus that of the
# noise. A sample has about 1; the libraries' guidance is of its own strength, and DDIM makes samples too smooth.
BOUNDS = {"inpainting_random": 2.5, "super_resolution": 1.5}
# Greatest and least noise level of each schedule in STEPS steps.
LEVELS = {
    "deepinv DPS": (152.2, 0.04),
    "deepinv DDRM": (2.0, 0.02),
    "deepinv DiffPIR": (157.5, 0.01),
    "azula DPS": (100.0, 0.03),
    "azula PiGDM": (100.0, 0.03),
    "azula DiffPIR": (100.0, 0.03),
    "azula TMPD": (100.0, 0.03),
}


@pytest.fixture(autouse=True, scope="module")
def _libraries():
    pytest.importorskip("azula", reason="pip install azula")
    pytest.importorskip("einops", reason="pip install deepinv torchvision (torchvision in the release for this torch)")
    with importable_torchvision():
        pytest.importorskip("deepinv.sampling", reason="pip install deepinv")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # thousands of products of small matrices, which more threads only slow down
    yield
    torch.set_num_threads(threads)


def operator_of(task):
    return lf.operators.create(task, SHAPE, dtype=DTYPE, **PARAMETERS.get(task, {}))


def rms(x):
    return x.square().mean().sqrt().item()


class Oracle(lf.denoisers.Gaussian):
    """Smooth images around .1, and a record of the calls: noise level, and whether a gradient was asked for."""

    def __init__(self):
        distance = (torch.arange(16.0, dtype=DTYPE)[:, None] - torch.arange(16.0, dtype=DTYPE)) ** 2
        smooth = torch.exp(-distance / 18)
        self.C = 0.16 * torch.kron(smooth, smooth) + 1e-3 * EYE
        super().__init__(torch.full(SHAPE, 0.1, dtype=DTYPE), self.C)
        self.calls = []

    def __call__(self, x, sigma):
        assert x.dtype == DTYPE
        assert isinstance(sigma, float)
        self.calls.append((sigma, torch.is_grad_enabled() and x.requires_grad))
        return super().__call__(x, sigma)

    def image(self):
        eps = torch.randn(N, generator=torch.Generator().manual_seed(1), dtype=DTYPE)
        return self.mean[None] + (torch.linalg.cholesky(self.C) @ eps).view(1, *SHAPE)

    def posterior(self, operator, y):
        """Mean [1, C, H, W] and root mean variance of x given y."""
        A = operator(EYE.view(N, *SHAPE)).flatten(1).T
        gain = self.C @ A.T @ torch.linalg.inv(A @ self.C @ A.T + operator.noise**2 * torch.eye(len(A), dtype=DTYPE))
        mean = self.mean.flatten() + gain @ (y.flatten() - A @ self.mean.flatten())
        return mean.view(1, *SHAPE), (self.C - gain @ A @ self.C).diag().mean().sqrt().item()


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("task", list(BOUNDS))
def test_restores(name, task):
    oracle, operator = Oracle(), operator_of(task)
    x = oracle.image()
    y = operator.measure(x)
    mean, deviation = oracle.posterior(operator, y)
    restored = peers(operator, oracle, STEPS)[name](y, 0)
    assert restored.shape == (1, *SHAPE)
    assert rms(restored - mean) < BOUNDS[task] * (deviation + operator.noise)
    assert rms(restored - x) < 0.5 * rms(oracle.mean - x)
    assert rms(operator(restored) - y) < 4 * operator.noise


# In units of what is wrong with the mean of the prior, and so is the blurred image by .58. DPS of deepinv is slow on
# directions of small singular values.
@pytest.mark.parametrize(("name", "bound"), [("deepinv DPS", 0.8), ("deepinv DiffPIR", 0.5), ("azula DPS", 0.5)])
def test_restores_without_singular_values(name, bound):
    oracle, operator = Oracle(), operator_of("motion_deblurring")
    x = oracle.image()
    restored = peers(operator, oracle, STEPS)[name](operator.measure(x), 0)
    assert rms(restored - x) < bound * rms(oracle.mean - x)


@pytest.mark.parametrize("name", PEERS)
def test_calls_of_the_denoiser(name):
    oracle, operator = Oracle(), operator_of("inpainting_random")
    y = operator.measure(oracle.image())
    peer = peers(operator, oracle, STEPS)[name]
    oracle.calls.clear()
    peer(y, 0)
    sigmas, gradients = zip(*oracle.calls, strict=True)
    assert len(sigmas) == peer.calls
    assert set(gradients) == {peer.gradient}
    assert list(sigmas) == sorted(sigmas, reverse=True)
    assert (sigmas[0], sigmas[-1]) == pytest.approx(LEVELS[name], rel=0.15)


@pytest.mark.parametrize("name", PEERS)
def test_levels_stay_in_the_range_of_training(name):
    oracle, operator = Oracle(), operator_of("inpainting_random")
    y = operator.measure(oracle.image())
    free = peers(operator, oracle, STEPS)[name](y, 0)
    oracle.calls.clear()
    oracle.sigma_range = (0.004, 80.0)
    restored = peers(operator, oracle, STEPS)[name](y, 0)
    assert all(0.004 <= sigma <= 80 for sigma, _ in oracle.calls)
    assert rms(restored - free) < 0.01


def test_prior_at_the_ends():
    oracle = Oracle()
    x = oracle.image()
    prior = Prior(oracle, DTYPE)
    assert torch.equal(prior(x, 0.0), x)
    assert oracle.calls == []
    oracle.sigma_range = (0.004, 80.0)
    torch.testing.assert_close(Prior(oracle, DTYPE)(x, torch.tensor(160.0)), oracle(x / 2, 80.0))


@pytest.mark.parametrize("name", PEERS)
def test_seeds(name):
    oracle, operator = Oracle(), operator_of("super_resolution")
    y = operator.measure(oracle.image())
    peer = peers(operator, oracle, 5)[name]
    state, numpy_state = torch.get_rng_state(), numpy.random.get_state()[1].copy()
    first = peer(y, 3)
    assert torch.equal(torch.get_rng_state(), state)
    assert (numpy.random.get_state()[1] == numpy_state).all()
    torch.rand(1)
    assert torch.equal(peer(y, 3), first)
    assert not torch.equal(peer(y, 4), first)


def test_an_offset_changes_nothing():
    """A(x) = 1 + m x with y + 1 is A(x) = m x with y."""
    oracle, mask = Oracle(), operator_of("inpainting_random").mask
    plain = lf.operators.from_callable(lambda x: mask * x, SHAPE, lambda r: mask * r, dtype=DTYPE)
    shifted = lf.operators.from_callable(lambda x: 1 + mask * x, SHAPE, lambda r: mask * r, dtype=DTYPE)
    y = plain.measure(oracle.image())
    one, other = peers(plain, oracle, 10), peers(shifted, oracle, 10)
    for name in ("deepinv DPS", "deepinv DiffPIR", "azula DPS", "azula DiffPIR", "azula TMPD"):
        torch.testing.assert_close(other[name](y + 1, 0), one[name](y, 0), rtol=0, atol=1e-4)


@pytest.mark.parametrize("task", ["inpainting_random", "super_resolution", "gaussian_deblurring", "motion_deblurring"])
def test_physics_of_deepinv(task):
    from lmaps_fast.race.peers_deepinv import Basis, forward_physics, linear_physics

    operator, noise = operator_of(task), 0.05
    u = torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=DTYPE)
    physics, measured = linear_physics(operator, noise)
    y = measured(operator(2 * u - 1))
    torch.testing.assert_close(physics.A(u), y)
    torch.testing.assert_close(forward_physics(operator, noise)[0].A(u), y)
    assert (physics.A_adjoint(y) * u).sum().item() == pytest.approx((y * physics.A(u)).sum().item())
    # |A| = 1, and the noise as much larger as the measurement
    norm = torch.linalg.matrix_norm(physics.A(EYE.view(N, *SHAPE)[:1]).flatten(1), 2)
    assert norm <= 1 + 1e-6
    scale = (measured(y + 1) - measured(y)).mean().item()
    assert physics.noise_model.sigma.item() == pytest.approx(noise * scale)
    assert LinearPart(operator).norm() == pytest.approx(
        torch.linalg.matrix_norm(operator(EYE.view(N, *SHAPE)).flatten(1), 2).item(), rel=1e-3
    )
    if task != "motion_deblurring":
        basis = Basis(operator)
        torch.testing.assert_close(basis.V(basis.Vt(u)), u)


def test_reasons():
    oracle = Oracle()

    def reasons(operator):
        return {name: peer for name, peer in peers(operator, oracle).items() if not isinstance(peer, Peer)}

    assert reasons(operator_of("super_resolution")) == {}
    assert set(reasons(operator_of("motion_deblurring"))) == {"deepinv DDRM", "azula PiGDM"}
    hdr = reasons(operator_of("high_dynamic_range"))
    assert set(hdr) == set(PEERS) - {"deepinv DPS", "azula DPS"}
    assert hdr["azula TMPD"] == "it needs a linear A, unlike high_dynamic_range"
    rounding = reasons(operator_of("quantization"))
    assert set(rounding) == set(PEERS) - {"azula PiGDM"}
    assert rounding["azula DPS"].startswith("quantization rounds")


def test_library_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "azula.guidance", None)
    found = peers(operator_of("super_resolution"), Oracle())
    assert all(isinstance(peer, Peer) for name, peer in found.items() if name.startswith("deepinv"))
    assert all(
        isinstance(peer, str) and "azula cannot be imported" in peer
        for name, peer in found.items()
        if name.startswith("azula")
    )


def test_nonlinear():
    oracle = Oracle()
    x = oracle.image()
    for task, names in {"high_dynamic_range": ["deepinv DPS", "azula DPS"], "quantization": ["azula PiGDM"]}.items():
        operator = operator_of(task)
        y = operator.measure(x)
        for name in names:
            restored = peers(operator, oracle, STEPS)[name](y, 0)
            assert rms(restored - x) < rms(operator.first_guess(y) - x), name


def test_too_few_steps():
    with pytest.raises(lf.InputError, match="steps must be at least 3, not 2"):
        peers(operator_of("super_resolution"), Oracle(), steps=2)


def test_published_settings():
    calls = {name: peer.calls for name, peer in peers(operator_of("super_resolution"), Oracle()).items()}
    assert list(calls.values()) == [999, 99, 100, 1000, 100, 64, 64]
