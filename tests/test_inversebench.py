"""The priors of InverseBench, by the key names of the public files, on networks of half the width and less."""

import math
import os
import re
import sys
from dataclasses import replace

import pytest
import torch
from conftest import importable_torchvision
from safetensors.torch import save_file

import lmaps_fast as lf
from lmaps_fast.denoisers import EDM, VP, inversebench
from lmaps_fast.denoisers.vp import linear_time

REDUCED = {"resolution": 32, "width": 64}
NAMES = sorted(inversebench.CARDS)
KEYS = {  # some that EDM's repository gives to DhariwalUNet and SongUNet
    "ADMUNet": ("enc.32x32_block0.norm0.weight", "enc.16x16_down.skip.resample_filter", "dec.2x2_in0.qkv.weight"),
    "NCSNpp": ("enc.32x32_block0.affine.bias", "enc.16x16_block0.proj.weight", "dec.32x32_aux_norm.weight"),
}


@pytest.fixture(scope="module", autouse=True)
def deepinv():
    with importable_torchvision():
        yield pytest.importorskip("deepinv.models", reason="pip install deepinv torchvision")


@pytest.fixture(autouse=True)
def cards(monkeypatch):
    reduced = {name: replace(card, **REDUCED) for name, card in inversebench.CARDS.items()}
    monkeypatch.setattr(inversebench, "CARDS", reduced)
    return reduced


def network_of(card):
    """With weights at random, those included that begin at 0."""
    torch.manual_seed(0)
    network = inversebench.build(card)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return network.eval()


def public_file(network, path):
    """As training leaves it: the wrapper's averaged and raw weights."""
    state = {f"model.{key}": value for key, value in network.state_dict().items()}
    torch.save({"ema": state, "net": {key: value + 1 for key, value in state.items()}}, path)
    return path


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_is_the_network_that_was_saved(name, cards, tmp_path):
    card, sigma = cards[name], 0.7
    network = network_of(card)
    state = network.state_dict()
    assert {"map_layer0.weight", "enc.32x32_conv.weight", *KEYS[card.architecture]} <= state.keys()
    denoiser = lf.denoisers.load(public_file(network, tmp_path / "prior.pt"), dtype=torch.float32)
    x = torch.randn(2, card.channels, 48, 32)  # neither square nor of the size of its training
    with torch.no_grad():
        if name == "black_hole":
            assert isinstance(denoiser, VP)
            t = linear_time(torch.full((2,), sigma, dtype=torch.float64)).float()
            eps = network.forward_unet(x / math.sqrt(1 + sigma**2), t)
            expected = x - sigma * eps
        else:
            assert isinstance(denoiser, EDM)
            total = sigma**2 + 0.25
            F = network.forward_unet(x / math.sqrt(total), torch.full((2,), math.log(sigma) / 4))
            expected = 0.25 / total * x + 0.5 * sigma / math.sqrt(total) * F
            network.pixel_std = 0.5
            theirs = network(x, sigma, input_in_minus_one_one=True)
            torch.testing.assert_close(expected, theirs, rtol=1e-5, atol=1e-5)
    assert (expected - x).norm() > 0.05 * x.norm()
    torch.testing.assert_close(denoiser(x, sigma), expected, rtol=1e-4, atol=1e-4)
    save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "prior.safetensors")
    half = lf.denoisers.load(tmp_path / "prior.safetensors", dtype=torch.bfloat16)
    assert (half(x, sigma) - expected).norm() < 0.03 * expected.norm()


@pytest.mark.parametrize("name", NAMES)
def test_a_prior_is_the_same_in_all_modes_of_torch_and_takes_levels_for_each_image(name, cards, tmp_path):
    path = public_file(network_of(cards[name]), tmp_path / "prior.pt")
    x = torch.randn(2, cards[name].channels, 32, 32)
    before = torch.get_rng_state()
    plain = lf.denoisers.load(path, dtype=torch.float32)
    assert torch.equal(torch.get_rng_state(), before)
    try:
        torch.set_default_dtype(torch.float64)
        with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
            inside = lf.denoisers.load(path, dtype=torch.float32)
            assert torch.equal(inside(x, 0.3), plain(x, 0.3))
    finally:
        torch.set_default_dtype(torch.float32)
    assert inside.recordable
    assert inside(x[:0], 0.3).shape == x[:0].shape
    x.requires_grad_()
    together = inside(x, torch.tensor([0.3, 2.0]))
    assert torch.autograd.grad(together.sum(), x)[0].isfinite().all()
    torch.testing.assert_close(together[1:], plain(x[1:], 2.0), rtol=1e-4, atol=1e-4)


def test_a_prior_restores_an_image_of_its_channels(cards, tmp_path):
    path = public_file(network_of(cards["mri_knee"]), tmp_path / "prior.pt")
    denoiser = lf.denoisers.load(path, dtype=torch.float32)
    operator = lf.operators.from_callable(lambda x: x[..., ::2], (2, 32, 32), linear=True)
    y = operator.measure(torch.zeros(1, 2, 32, 32))
    assert lf.restore(y, operator, denoiser, preset=lf.Preset(3, 30, 0.2, 0.3, 2.0)).isfinite().all()
    for shape, sizes in (((1, 32, 32), "[1, 32, 32]"), ((2, 40, 32), "[2, 40, 32]")):
        message = f"images of 2 channel(s) whose sides are multiples of 16, not {sizes}"
        with pytest.raises(lf.InputError, match=re.escape(message)):
            denoiser(torch.zeros(1, *shape), 1.0)


def test_checkpoints_that_do_not_fit(cards, tmp_path):
    state, path = network_of(cards["black_hole"]).state_dict(), tmp_path / "bad.pt"
    key = "dec.32x32_up.conv0.bias"
    for change, sentence in (
        (lambda s: s.pop(key), f"it lacks {key}"),
        (lambda s: s.update({"map_augment.weight": torch.zeros(1)}), "it also has map_augment.weight"),
        (lambda s: s.update({key: torch.zeros(1)}), f"of another shape is {key}"),
        (lambda s: s.update({"enc.32x32_conv.weight": torch.zeros(64, 3, 3, 3)}), "NCSNpp for images 3x32x32 is not"),
        (lambda s: s.pop("dec.32x32_aux_conv.weight"), "part of a network for images 1x32x32 is not one of"),
    ):
        changed = dict(state)
        change(changed)
        torch.save(changed, path)
        with pytest.raises(lf.InputError, match=re.escape(sentence)):
            lf.denoisers.load(path)
    torch.save({"weight": torch.zeros(1)}, path)
    with pytest.raises(lf.InputError, match="not one of the networks of InverseBench"):
        inversebench.load(path)


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("lmaps_fast_was_here",)


def test_a_checkpoint_cannot_run_code(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    torch.save({"ema": Hostile()}, "hostile.pt")
    with pytest.raises(lf.InputError, match="loading it could run code"):
        lf.denoisers.load("hostile.pt")
    assert not (tmp_path / "lmaps_fast_was_here").exists()


def test_without_deepinv_the_package_is_named(monkeypatch, cards):
    monkeypatch.setitem(sys.modules, "deepinv.models", None)
    with pytest.raises(lf.InputError, match=r"pip install 'lmaps_fast\[deepinv\]'"):
        inversebench.build(cards["mri_knee"])


@pytest.mark.full
@pytest.mark.parametrize(("name", "millions"), [("inverse_scattering", 26.8), ("mri_knee", 26.0), ("black_hole", 20.0)])
def test_the_networks_at_full_size(name, millions, monkeypatch, tmp_path):
    monkeypatch.undo()
    card = inversebench.CARDS[name]
    network = network_of(card)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)
    assert f"enc.{card.resolution}x{card.resolution}_conv.weight" in network.state_dict()
    denoiser = lf.denoisers.load(public_file(network, tmp_path / "prior.pt"), dtype=torch.float32)
    x, sigma = torch.randn(1, card.channels, 64, 64), 0.7
    level = torch.tensor([sigma], dtype=torch.float64)
    skip, out, scale = (number.item() for number in denoiser.preconditioning(level))
    with torch.no_grad():
        F = network.forward_unet(x * scale, denoiser.condition(level).float())
    torch.testing.assert_close(denoiser(x, sigma), skip * x + out * F, rtol=1e-4, atol=1e-4)
