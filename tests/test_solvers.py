"""What every solver must have, walked over the registry, and every solver through the front door."""

import sys
from dataclasses import FrozenInstanceError, fields, is_dataclass

import pytest
import torch
from conftest import TASKS, photo_like

import lmaps_fast as lf
from lmaps_fast import operators
from lmaps_fast.denoisers import EDM
from lmaps_fast.operators.base import ABILITIES
from lmaps_fast.solvers import REGISTRY, Solver
from lmaps_fast.solvers.daps import PUBLISHED, PUBLISHED_HMC

SHAPE = (3, 16, 24)
FEW = {"daps": {"inner_steps": 2, "lr": 1e-5}, "sitcom": {"inner_steps": 2}}


class Network(torch.nn.Module):
    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def forward(self, x, c_noise):
        return self.conv(x)


@pytest.fixture
def problem():
    operator = operators.create("inpainting_random", SHAPE)
    torch.manual_seed(0)
    network = torch.nn.Conv2d(3, 3, 3, padding=1)
    return operator, operator.measure(photo_like(2, SHAPE, torch.float32)), EDM(Network(network))


def lacks(solver):
    """What a solver lacks, in words."""
    own = {name for kind in solver.__mro__ if kind is not Solver for name in vars(kind)}
    settings = getattr(solver, "Settings", None)
    task = next(task for task in TASKS if not getattr(solver, "needs", ()) or operators.REGISTRY[task].can)
    for fault, wrong in (
        ("a name", not getattr(solver, "name", None)),
        ("needs that are abilities of operators", not set(solver.needs) <= ABILITIES.keys()),
        ("Settings, a frozen dataclass", not is_dataclass(settings) or not settings.__dataclass_params__.frozen),
        ("steps among its Settings", settings is None or "steps" not in {field.name for field in fields(settings)}),
        ("published settings", "published" not in own or not isinstance(solver.published(task), settings)),
        ("sigmas", "sigmas" not in own),
        ("a step", "step" not in own),
        ("a docstring", not solver.__doc__),
        ("a link to its paper in its module", "https://" not in (sys.modules[solver.__module__].__doc__ or "")),
    ):
        if wrong:
            yield fault


@pytest.mark.parametrize("name", REGISTRY)
def test_every_solver_has_all_parts(name):
    assert REGISTRY[name].name == name
    assert not list(lacks(REGISTRY[name])), f"{name} lacks {', '.join(lacks(REGISTRY[name]))}"


def test_what_a_solver_lacks_is_named():
    class Bare(Solver):
        name = "bare"
        needs = ("magic",)

    faults = list(lacks(Bare))
    assert faults[:2] == ["needs that are abilities of operators", "Settings, a frozen dataclass"]
    assert faults[-2:] == ["a docstring", "a link to its paper in its module"]


@pytest.mark.parametrize("name", REGISTRY)
def test_settings_are_checked_frozen_and_follow_the_noise(name):
    solver = REGISTRY[name]
    settings = solver.published("denoising")
    with pytest.raises(FrozenInstanceError):
        settings.steps = 1
    for steps in (0, 2.5, 20.0, -1, True, "3"):
        with pytest.raises(lf.InputError, match="steps must be a whole number, at least 1"):
            lf.Restorer(operators.create("denoising", SHAPE), lambda x, sigma: x, name, steps=steps)
    if solver.uses_noise and name != "lmaps":
        assert solver.published("denoising", noise=0.3).sigma_y == 0.3


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", REGISTRY)
def test_refusals_come_from_what_a_solver_needs(name, task):
    solver, operator = REGISTRY[name], operators.create(task, SHAPE)
    if not solver.needs or operator.can & set(solver.needs):
        assert solver(operator, lambda x, sigma: x).name == name
        return
    able = [other for other, kind in operators.REGISTRY.items() if kind.can & set(solver.needs)]
    wanted = " or ".join(ABILITIES[need] for need in solver.needs)
    sentence = f"{name} needs {wanted}, which {task} does not have: use {', '.join(able)}, or an operator of your own"
    with pytest.raises(lf.InputError, match=sentence):
        lf.Restorer(operator, lambda x, sigma: x, name)


@pytest.mark.parametrize("name", REGISTRY)
def test_restores_and_calls_back(name, problem):
    operator, y, denoiser = problem
    seen = []
    x = lf.restore(y, operator, denoiser, name, steps=4, seed=1, callback=seen.append, **FEW.get(name, {}))
    assert x.shape == (2, *SHAPE)
    assert x.isfinite().all()
    assert torch.equal(x, seen[-1].x0)
    assert [step.index for step in seen] == list(range(len(seen)))
    again = lf.Restorer(operator, denoiser, name, steps=4, **FEW.get(name, {}))(y[1:], seed=1, images=[1])
    torch.testing.assert_close(again, x[1:], rtol=1e-4, atol=1e-4)


def test_published_settings_and_what_overrides_them(problem):
    operator, _, denoiser = problem
    assert lf.Restorer(operator, denoiser, "daps").settings == [PUBLISHED["inpainting_random"]]
    assert lf.Restorer(operator, denoiser, "ddrm", noise=0.2).settings[0].sigma_y == 0.2
    own = PUBLISHED_HMC["inpainting_random"]
    assert lf.Restorer(operator, denoiser, "daps", preset=own).settings[0].method == "hmc"
    assert lf.Restorer(operator, denoiser, "ddnm", eta=0.5).settings[0].eta == 0.5
    each = lf.Restorer(operator, denoiser, "ddnm", steps=[3, 4], noise=[0.1, 0.2]).settings
    assert [(one.steps, one.sigma_y) for one in each] == [(3, 0.1), (4, 0.2)]
    with pytest.raises(lf.InputError, match="unknown hyper-parameter 'k1'"):
        lf.Restorer(operator, denoiser, "ddnm", k1=0.5)
    with pytest.raises(lf.InputError, match="leave preset out, or give settings of dps"):
        lf.Restorer(operator, denoiser, "dps", preset="paper")
    with pytest.raises(lf.InputError, match="preset is a DDRMSettings: give a DDNMSettings"):
        lf.Restorer(operator, denoiser, "ddnm", preset=REGISTRY["ddrm"].Settings())
    with pytest.raises(lf.InputError, match="daps has no published settings for 'quantization'"):
        lf.Restorer(operators.create("quantization", SHAPE), denoiser, "daps")
