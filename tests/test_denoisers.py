"""Preconditioning, public checkpoints and adapters."""

import math
import os
import sys
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

import lmaps_fast as lf
from lmaps_fast.denoisers import EDM, VP, GaussianMixture, adm, checkpoints
from lmaps_fast.denoisers.vp import PREDICTIONS, DiscreteTime, linear_time


def level(*sigmas):
    return torch.tensor(sigmas, dtype=torch.float64)


class Constant(torch.nn.Module):
    """F(x, t) = w x + t, and channels that are to be left out."""

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor(0.3))

    def forward(self, x, t):
        return torch.cat([self.w * x + t.view(-1, 1, 1, 1).to(x.dtype), x], 1)


def test_timesteps_of_the_linear_schedule():
    """ln(1 + sigma^2) = .05 t + 4.975 t^2 at sigma = 1 is ln 2."""
    for sigma, timestep in ((100, 956.1), (0.1, 26.97), (0.01, 0.92)):
        assert linear_time(level(sigma)).item() == pytest.approx(timestep, abs=0.05)
    t = linear_time(level(1.0)).item() / 999
    assert 0.1 * t + 9.95 * t**2 == pytest.approx(math.log(2), rel=1e-12)


def test_discrete_timesteps_are_those_of_the_linear_schedule():
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    time, sigma = DiscreteTime((1 - betas).cumprod(0)), level(0.02, 0.1, 1.0, 10.0)
    # The products begin with the first beta, so index i is time i + 1 / 2 or so.
    assert time(sigma).tolist() == pytest.approx(linear_time(sigma).tolist(), abs=1, rel=5e-3)
    assert time(level(1e-9, 1e9)).tolist() == [0, 999]
    with pytest.raises(lf.InputError, match="alphas_cumprod must fall"):
        DiscreteTime([0.1, 0.2])


def test_discrete_timesteps_lie_on_the_line_between_two_steps():
    alphas = level(0.9, 0.5, 0.2, 0.01)
    steps = ((1 - alphas) / alphas).sqrt()
    between = [steps[0], (steps[1] * steps[2]).sqrt(), steps[2], steps[2] ** 0.75 * steps[3] ** 0.25]
    assert DiscreteTime(alphas)(torch.stack(between)).tolist() == pytest.approx([0, 1.5, 2, 2.25], abs=1e-12)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_variance_preserving_predictions_recover_the_image(prediction):
    """A network that is right about its target gives back the image."""
    x0, eps, sigma = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8), 0.7
    alpha, s = 1 / math.sqrt(1 + sigma**2), sigma / math.sqrt(1 + sigma**2)
    target = {"epsilon": eps, "sample": x0, "v_prediction": alpha * eps - s * x0}[prediction]

    class Right(torch.nn.Module):
        def forward(self, x, t):
            torch.testing.assert_close(x, alpha * x0 + s * eps)
            assert t.tolist() == pytest.approx(linear_time(level(sigma, sigma)).tolist())
            return target

    torch.testing.assert_close(VP(Right(), prediction)(x0 + sigma * eps, sigma), x0, rtol=1e-4, atol=1e-5)
    with pytest.raises(lf.InputError, match="unknown prediction 'score'"):
        VP(Right(), "score")


@pytest.mark.parametrize("denoiser", [EDM(Constant()), VP(Constant())], ids=["EDM", "VP"])
def test_a_call_is_the_network_between_its_linear_maps(denoiser):
    x, sigma = torch.randn(2, 3, 8, 8), 1.7
    skip, out, scale = (number.item() for number in denoiser.preconditioning(level(sigma)))
    condition = denoiser.condition(level(sigma)).item()
    F = 0.3 * scale * x + condition
    torch.testing.assert_close(denoiser(x, sigma), skip * x + out * F, rtol=1e-5, atol=1e-5)
    if isinstance(denoiser, EDM):
        assert skip == pytest.approx(0.25 / (sigma**2 + 0.25))
        assert out == pytest.approx(0.5 * sigma / math.sqrt(sigma**2 + 0.25))
        assert scale == pytest.approx((sigma**2 + 0.25) ** -0.5)
        assert condition == pytest.approx(math.log(sigma) / 4)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_checkpoint_is_the_network_that_was_saved(small_adm, suffix, tmp_path):
    path = tmp_path / f"checkpoint{suffix}"
    state = {key: value.contiguous() for key, value in small_adm.state_dict().items()}
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    denoiser = lf.denoisers.load(path, dtype=torch.float32)
    x, sigma = torch.randn(2, 3, 32, 32), 2.5
    with torch.no_grad():
        t = linear_time(level(sigma, sigma)).float()
        eps = small_adm(x / math.sqrt(1 + sigma**2), t)[:, :3]
    torch.testing.assert_close(denoiser(x, sigma), x - sigma * eps, rtol=1e-4, atol=1e-4)
    half = lf.denoisers.load(path, dtype=torch.bfloat16)
    assert (half(x, sigma) - denoiser(x, sigma)).norm() < 0.05 * denoiser(x, sigma).norm()


@pytest.mark.full
def test_the_network_of_ffhq_at_full_size(tmp_path):
    pytest.importorskip("azula", reason="azula is optional")
    network = adm.build("ffhq_256x256").eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.02, generator=torch.Generator().manual_seed(0))
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(93.6, abs=0.05)
    assert {adm.FIRST, "time_embed.0.weight", "output_blocks.11.0.in_layers.0.weight"} <= network.state_dict().keys()
    torch.save(network.state_dict(), tmp_path / "ffhq_10m.pt")
    x, sigma = torch.randn(1, 3, 64, 64), 2.5
    with torch.no_grad():
        eps = network(x / math.sqrt(1 + sigma**2), linear_time(level(sigma)).float())[:, :3]
    denoised = lf.denoisers.load(tmp_path / "ffhq_10m.pt", dtype=torch.float32)(x, sigma)
    torch.testing.assert_close(denoised, x - sigma * eps, rtol=1e-4, atol=1e-4)


def test_checkpoints_that_do_not_fit(small_adm, tmp_path):
    state, path = small_adm.state_dict(), tmp_path / "bad.pt"
    for change, sentence in (
        (lambda s: s.pop("time_embed.2.bias"), "it lacks time_embed.2.bias"),
        (lambda s: s.update(more=torch.zeros(1)), "it also has more"),
        (lambda s: s.update({"time_embed.2.bias": torch.zeros(1)}), "of another shape is time_embed.2.bias"),
        (lambda s: s.pop(adm.FIRST), "not one of the ADM networks"),
    ):
        changed = dict(state)
        change(changed)
        torch.save(changed, path)
        with pytest.raises(lf.InputError, match=sentence):
            lf.denoisers.load(path)


class Hostile:
    def __reduce__(self):
        return os.system, ("touch /tmp/lmaps_fast_was_here",)


def test_a_checkpoint_cannot_run_code_and_must_be_whole(tmp_path):
    path = tmp_path / "hostile.pt"
    torch.save({"weights": Hostile()}, path)
    with pytest.raises(lf.InputError, match="loading it could run code"):
        lf.denoisers.load(path)
    torch.save({"weights": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(lf.InputError, match="not a whole checkpoint"):
        lf.denoisers.load(path)
    torch.save([1, 2], path)
    with pytest.raises(lf.InputError, match="a dictionary of tensors"):
        lf.denoisers.load(path)


def test_without_azula_the_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "azula.plugins", None)
    with pytest.raises(lf.InputError, match=r"pip install 'lmaps_fast\[adm\]'"):
        adm.build("ffhq_256x256")


def test_a_checkpoint_that_was_not_fetched(monkeypatch, tmp_path):
    monkeypatch.setenv("LMAPS_FAST_MODELS", str(tmp_path))
    with pytest.raises(lf.InputError, match="fetch it with `lmaps-fast download ffhq`"):
        lf.denoisers.load("ffhq")


def test_a_model_of_diffusers():
    network = Constant()
    unet = lambda x, t: SimpleNamespace(sample=network(x, t))  # noqa: E731

    class Unet(torch.nn.Module):
        def forward(self, x, t):
            return unet(x, t)

    alphas = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
    scheduler = SimpleNamespace(alphas_cumprod=alphas, config=SimpleNamespace(prediction_type="v_prediction"))
    x = torch.randn(1, 3, 8, 8)
    ours = lf.denoisers.from_diffusers(Unet(), scheduler)(x, 0.5)
    torch.testing.assert_close(ours, VP(network, "v_prediction", DiscreteTime(alphas))(x, 0.5))
    with pytest.raises(lf.InputError, match="give a DDPMScheduler"):
        lf.denoisers.from_diffusers(Unet(), object())


def test_a_denoiser_of_deepinv_works_on_images_from_0_to_1():
    seen = []
    denoiser = lf.denoisers.from_deepinv_denoiser(lambda y, sigma: seen.append((y, sigma)) or y)
    x = torch.tensor([[[[-1.0, 1.0]]]])
    assert torch.equal(denoiser(x, 0.4), x)
    assert seen[0][0].flatten().tolist() == [0, 1]
    assert seen[0][1] == 0.2


class Server:
    """A file on a server that gives ranges and hangs up after some bytes."""

    def __init__(self, content, stop):
        self.content, self.stop, self.ranges = content, stop, []

    def __call__(self, request, timeout):
        start = int(request.get_header("Range", "bytes=0-")[6:-1])
        self.ranges.append(start)
        rest = self.content[start : self.stop.pop(0)]
        blocks = iter([rest, b""])
        answer = SimpleNamespace(status=206 if start else 200, headers={"Content-Length": len(self.content) - start})
        answer.read = lambda n: next(blocks)
        answer.__enter__ = lambda: answer
        return _Context(answer)


class _Context:
    def __init__(self, answer):
        self.answer = answer

    def __enter__(self):
        return self.answer

    def __exit__(self, *_):
        return False


def test_a_download_is_taken_up_again_and_checked(monkeypatch, tmp_path):
    content = bytes(range(256)) * 10
    server = Server(content, [1000, None, None])
    monkeypatch.setattr(checkpoints.urllib.request, "urlopen", server)
    with pytest.raises(lf.InputError, match="broke off: run the command again"):
        checkpoints.download("imagenet", to=tmp_path)
    with pytest.raises(lf.InputError, match=r"has SHA-256 \w+, not \w+, and was removed"):
        checkpoints.download("imagenet", to=tmp_path)
    assert server.ranges == [0, 1000]
    assert list(tmp_path.iterdir()) == []
    right = checkpoints.hashlib.sha256(content).hexdigest()
    path = checkpoints.download("imagenet", sha256=right, to=tmp_path)
    assert path.read_bytes() == content
    with pytest.raises(lf.InputError, match="unknown checkpoint"):
        checkpoints.download("celeba", to=tmp_path)


def test_a_mixture_is_the_posterior_mean_by_quadrature():
    """Of two pixels: the integral of x0 p(x0) p(x | x0) over a grid, divided by that of p(x0) p(x | x0)."""
    weights, sigma = torch.tensor([0.3, 0.7], dtype=torch.float64), 0.6
    means = torch.tensor([[-0.5, 0.2], [0.6, -0.4]], dtype=torch.float64)
    covariances = torch.tensor([[[0.05, 0.02], [0.02, 0.04]], [[0.03, -0.01], [-0.01, 0.08]]], dtype=torch.float64)
    x = torch.tensor([0.1, 0.15], dtype=torch.float64)
    line = torch.linspace(-3, 3, 601, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    prior = sum(
        w * torch.distributions.MultivariateNormal(m, C).log_prob(grid).exp()
        for w, m, C in zip(weights, means, covariances, strict=True)
    )
    posterior = prior * (-0.5 * (x - grid).square().sum(1) / sigma**2).exp()
    mixture = GaussianMixture(weights, means.view(2, 1, 1, 2), covariances)
    expected = (posterior[:, None] * grid).sum(0) / posterior.sum()
    torch.testing.assert_close(mixture(x.view(1, 1, 1, 2), sigma).flatten(), expected, rtol=1e-8, atol=1e-8)
    with pytest.raises(lf.InputError, match="leave out components of weight 0"):
        GaussianMixture(weights - 0.3, means.view(2, 1, 1, 2), covariances)


def test_a_gradient_is_there_for_those_who_ask():
    denoiser, x = EDM(Constant()), torch.randn(1, 3, 8, 8)
    assert not denoiser(x, 1.0).requires_grad
    x.requires_grad_()
    skip, out, scale = (number.item() for number in denoiser.preconditioning(level(1.0)))
    (gradient,) = torch.autograd.grad(denoiser(x, 1.0).sum(), x)
    torch.testing.assert_close(gradient, torch.full_like(x, skip + out * scale * 0.3))
    with torch.no_grad():
        assert not denoiser(x, 1.0).requires_grad
