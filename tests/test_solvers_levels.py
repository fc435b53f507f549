"""Levels for each image: a batch of images with different settings is what each image is alone, bit for bit on a CPU,
in as many network calls as the longest of them makes."""

import pytest
import torch
from conftest import photo_like

import lmaps_fast as lf
from lmaps_fast import operators
from lmaps_fast.denoisers import EDM
from lmaps_fast.levels import polynomial
from lmaps_fast.solvers import REGISTRY

SHAPE = (3, 17, 19)  # ragged, so that an entry's place in a vector of the CPU depends on what is before it
STEPS = (3, 5, 4)
TASKS = [task for task in operators.REGISTRY if task != "nonlinear_deblurring"]
CASES = [
    (name, task)
    for name, kind in REGISTRY.items()
    for task in TASKS
    if not kind.needs or (operators.REGISTRY[task].can & set(kind.needs))
]
# What else differs between the three images.
OWN = {
    "daps": {"inner_steps": (3, 6, 4), "lr": (1e-5, 3e-6, 2e-5), "sigma_max": (10.0, 50.0, 20.0)},
    "sitcom": {"inner_steps": (3, 6, 4), "lr": (0.02, 0.05, 0.01), "project": (False, True, False)},
    "dps": {"scale": (0.3, 1.0, 0.0)},
    "pigdm": {"eta": (1.0, 0.5, 0.0)},
    "tmpd": {"eta": (1.0, 0.5, 0.0)},
    "ddrm": {"eta": (0.85, 0.5, 1.0), "eta_b": (1.0, 0.7, 0.9)},
    "ddnm": {"eta": (0.85, 0.5, 0.0)},
    "diffpir": {"lam": (7.0, 2.0, 15.0), "zeta": (0.3, 1.0, 0.0), "sigma_max": (3.0, 2.0, 1.0)},
}
CALLS_OF_A_STEP = {"daps": 5}


class Elementwise:
    """Each entry from itself and its image's level, so that an image in a batch is what it is alone."""

    batched_sigma = True

    def __init__(self):
        self.calls = 0

    def __call__(self, x, sigma):
        self.calls += 1
        s = torch.as_tensor(sigma, dtype=torch.float64).to(x.dtype).view(-1, *[1] * (x.dim() - 1))
        return x / (1 + s * s)


class OneLevel(Elementwise):
    """A callable that takes a float alone."""

    batched_sigma = False

    def __call__(self, x, sigma):
        assert type(sigma) is float
        return super().__call__(x, sigma)


class Network(torch.nn.Module):
    def forward(self, x, condition):
        return x * (1 + condition).view(-1, *[1] * (x.dim() - 1)).to(x.dtype)


def create(task, **parameters):
    operator = operators.create(task, SHAPE, **parameters)
    if task == "motion_deblurring":
        operator.tolerance = 0.05  # of its polynomials, which would have hundreds of terms where noise is low
    return operator


def settings_of(name, task):
    """Settings of three images that differ in all that may."""
    if name == "lmaps":
        lr = 0.01 if task == "phase_retrieval" else 0.02
        return [
            lf.Preset(3, 20, lr, 0.3, 4, 5.0, 0.1),
            lf.Preset(5, 40, lr / 2, 0.1, 8, 20.0, 0.05, rho=0.7),
            lf.Preset(4, 7, lr, 0.3, 2, 0.5, 0.02, start="measurement"),
        ]
    own = {"steps": STEPS, **OWN[name]}
    if REGISTRY[name].uses_noise:
        own["sigma_y"] = (0.05, 0.2, 0.01)
    return [REGISTRY[name].Settings(**{key: values[n] for key, values in own.items()}) for n in range(3)]


def check(operator, denoiser, name, settings, y, operators_alone=None):
    """The batch of three, after comparing each image with what it is alone."""
    whole = lf.Restorer(operator, denoiser, name, preset=settings, runs=1)(y, seed=3)
    for n in range(3):
        one = operator if operators_alone is None else operators_alone[n]
        alone = lf.Restorer(one, denoiser, name, preset=settings[n], runs=1)(y[n : n + 1], seed=3, images=[n])
        assert torch.equal(alone[0], whole[n]), f"image {n} by {(alone[0] - whole[n]).abs().max()}"
    assert whole.isfinite().all()
    return whole


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("name", "task"), CASES)
def test_a_batch_is_its_images_bit_for_bit(name, task):
    for dtype in (torch.float32, torch.float64):
        operator = create(task, dtype=dtype)
        y, settings, denoiser = operator.measure(photo_like(3, SHAPE, dtype)), settings_of(name, task), Elementwise()
        check(operator, denoiser, name, settings, y)
        check(operator, OneLevel(), name, settings, y)
        denoiser.calls = 0
        lf.Restorer(operator, denoiser, name, preset=settings, runs=1)(y)
        most = max(STEPS) * CALLS_OF_A_STEP.get(name, 1)
        assert denoiser.calls == most or (name == "sitcom" and max(STEPS) <= denoiser.calls <= 6 * max(STEPS))


@pytest.mark.parametrize("name", REGISTRY)
def test_images_that_threads_share_are_those_alone_too(name):
    shape = (3, 112, 120)  # of more entries than one thread takes
    operator = operators.create("super_resolution", shape)
    check(operator, Elementwise(), name, settings_of(name, ""), operator.measure(photo_like(3, shape, torch.float32)))


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("task", TASKS)
def test_the_fused_step_of_a_batch_is_that_of_its_images(task, dtype, channels):
    """Images leave the batch after their last step; what is left keeps the strides that the kernels go by."""
    shape = (channels, 17, 20)
    operator, denoiser = operators.create(task, shape), EDM(Network(), dtype=dtype)
    y = operator.measure(photo_like(3, shape, torch.float32))
    settings = settings_of("lmaps", task)
    assert lf.Restorer(operator, denoiser, preset=settings, runs=1).solver.network is not None
    check(operator, denoiser, "lmaps", settings, y)


STACKED = {
    "inpainting_random": [{"seed": 0}, {"seed": 1}, {"seed": 2}],
    "high_dynamic_range": [{"gain": 2.0}, {"gain": 1.5}, {"gain": 3.0}],
    "jpeg_restoration": [{"quality": 5}, {"quality": 30}, {"quality": 90}],
    "quantization": [{"bits": 2}, {"bits": 3}, {"bits": 5}],
    "motion_deblurring": [{"seed": 0}, {"seed": 1}, {"seed": 2}],
}


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("task", STACKED)
def test_images_with_operators_of_their_own_are_those_alone(task):
    for name in (name for name, other in CASES if other == task):
        each = [create(task, **parameters) for parameters in STACKED[task]]
        images, settings = photo_like(3, SHAPE, torch.float32), settings_of(name, task)
        whole = operators.stack(each)
        check(whole, Elementwise(), name, settings, whole.measure(images), each)


def test_a_callback_sees_the_level_of_each_image_and_keeps_those_that_have_ended():
    operator, seen = operators.create("denoising", SHAPE), []
    y, settings = operator.measure(photo_like(3, SHAPE, torch.float32)), settings_of("lmaps", "denoising")
    result = lf.Restorer(operator, Elementwise(), preset=settings)(y, callback=seen.append)
    assert [(step.index, step.total) for step in seen] == [(i, 5) for i in range(5)]
    sigmas = [polynomial(preset.steps, preset.sigma_max, preset.sigma_min)[:-1] for preset in settings]
    assert [step.sigma for step in seen] == [tuple(each[min(i, len(each) - 1)] for each in sigmas) for i in range(5)]
    assert all(step.x0.shape == step.x.shape == result.shape for step in seen)
    for n, steps in enumerate(STEPS):
        assert all(torch.equal(step.x0[n], result[n]) for step in seen[steps - 1 :])
        assert not torch.equal(seen[steps - 2].x0[n], result[n])


def test_settings_that_a_batch_must_share():
    operator = operators.create("denoising", SHAPE)
    for name, settings, what in (
        ("daps", ({"method": "langevin"}, {"method": "hmc"}), "method"),
        ("daps", ({"ode_steps": 5}, {"ode_steps": 4}), "ode_steps"),
        ("tmpd", ({"cg_steps": 0}, {"cg_steps": 4}), "cg_steps"),
    ):
        given = [REGISTRY[name].Settings(**each) for each in settings]
        with pytest.raises(lf.InputError, match=f"{name} takes one {what} for all images of a batch: give one"):
            lf.Restorer(operator, Elementwise(), name, preset=given)
    for wrong, sentence in (
        ({"steps": [3, 4], "noise": [0.1, 0.2, 0.3]}, "are for 3 images: give one value, or one for each"),
        ({"preset": [lf.Preset(2, 2, 0.1, 0.2, 1.0)] * 2, "steps": [2, 3, 4]}, "are for 3 images"),
    ):
        with pytest.raises(lf.InputError, match=sentence):
            lf.Restorer(operator, Elementwise(), **wrong)
    with pytest.raises(lf.InputError, match="y holds 2 images but there are settings for 3: give as many"):
        lf.Restorer(operator, Elementwise(), steps=[2, 3, 4])(torch.zeros(2, *SHAPE))
