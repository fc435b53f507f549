"""Every solver through the front door: its published settings, what overrides them, and what is refused."""

import pytest
import torch
from conftest import photo_like

import lmaps_fast as lf
from lmaps_fast.denoisers import EDM
from lmaps_fast.solvers import REGISTRY, published

SHAPE = (3, 16, 24)
OTHERS = [name for name in REGISTRY if name != "lmaps"]
FEW = {"daps": {"inner_steps": 2, "lr": 1e-5}, "sitcom": {"inner_steps": 2}}


@pytest.fixture
def problem():
    operator = lf.operators.create("inpainting_random", SHAPE)
    torch.manual_seed(0)
    network = torch.nn.Conv2d(3, 3, 3, padding=1)
    return operator, operator.measure(photo_like(2, SHAPE, torch.float32)), EDM(Network(network))


class Network(torch.nn.Module):
    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def forward(self, x, c_noise):
        return self.conv(x)


@pytest.mark.parametrize("solver", OTHERS)
def test_restores_and_calls_back(solver, problem):
    operator, y, denoiser = problem
    seen = []
    x = lf.restore(y, operator, denoiser, solver, steps=4, seed=1, callback=seen.append, **FEW.get(solver, {}))
    assert x.shape == (2, *SHAPE)
    assert x.isfinite().all()
    assert torch.equal(x, seen[-1].x0)
    assert [step.index for step in seen] == list(range(len(seen)))
    again = lf.Restorer(operator, denoiser, solver, steps=4, **FEW.get(solver, {}))(y[1:], seed=1, images=[1])
    torch.testing.assert_close(again, x[1:], rtol=1e-4, atol=1e-4)


def test_settings(problem):
    operator, _, denoiser = problem
    assert lf.Restorer(operator, denoiser, "daps").preset == published.get("daps", "inpainting_random")
    assert lf.Restorer(operator, denoiser, "ddrm", noise=0.2).preset.sigma_y == 0.2
    own = published.get("daps_hmc", "inpainting_random")
    assert lf.Restorer(operator, denoiser, "daps", preset=own).solver.settings.method == "hmc"
    assert lf.Restorer(operator, denoiser, "ddnm", eta=0.5).preset.eta == 0.5
    with pytest.raises(lf.InputError, match="unknown hyper-parameter 'k1'"):
        lf.Restorer(operator, denoiser, "ddnm", k1=0.5)
    with pytest.raises(lf.InputError, match="leave preset out, or give settings of dps"):
        lf.Restorer(operator, denoiser, "dps", preset="paper")
    with pytest.raises(lf.InputError, match="daps has no published settings for 'quantization'"):
        lf.Restorer(lf.operators.create("quantization", SHAPE), denoiser, "daps")
    with pytest.raises(lf.InputError, match="no published settings of 'dcdp': choose one of daps"):
        published.get("dcdp", "denoising")
