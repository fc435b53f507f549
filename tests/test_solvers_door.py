"""What solvers are given at the door: noise, seeds, empty batches, types of denoisers, modes of torch, warm-up."""

import threading

import pytest
import torch
from conftest import photo_like

import lmaps_fast as lf
from lmaps_fast import door, operators
from lmaps_fast.denoisers import EDM
from lmaps_fast.solvers import REGISTRY

SHAPE = (3, 16, 24)
GRADIENTS = [name for name, solver in REGISTRY.items() if solver.differentiates]
FEW = {"daps": {"inner_steps": 2, "lr": 1e-5}, "sitcom": {"inner_steps": 3}}


def denoiser(x, sigma):
    return x / (1 + sigma**2)


def operator_of(dtype=torch.float32):
    return operators.create("super_resolution", SHAPE, dtype=dtype)


def measured(operator, batch=2):
    return operator.measure(photo_like(batch, SHAPE, operator.dtype))


def restorer(name, operator=None, given=denoiser, **options):
    return lf.Restorer(operator or operator_of(), given, name, **{"steps": 3, **FEW.get(name, {}), **options})


def test_noise_that_cannot_be_heeded_is_refused():
    preset = lf.Preset(2, 2, 0.1, 0.2, 1.0)
    for name, options, sentence in (
        ("daps", {}, "daps does not use the noise of y: leave noise out"),
        ("dps", {}, "dps does not use the noise of y: leave noise out"),
        ("lmaps", {"preset": preset}, "a Preset of your own does not follow the noise: leave noise or preset out"),
        ("lmaps", {"preset": "paper"}, "the paper's table is for the protocol's noise: leave noise out"),
        ("lmaps", {}, "the paper's table is for the protocol's noise"),  # of a callable without a table of its own
        ("ddrm", {"sigma_y": 0.2}, "noise and sigma_y are one number: give one of them"),
    ):
        with pytest.raises(lf.InputError, match=sentence):
            restorer(name, noise=0.1, **options)
    with pytest.raises(lf.InputError, match="dps does not use the noise of y: leave sigma_y out"):
        restorer("dps", sigma_y=0.1)
    for noise in (-0.1, float("nan"), float("inf")):
        with pytest.raises(lf.InputError, match="noise must be finite and not negative"):
            restorer("ddrm", noise=noise)


def test_hyper_parameters_out_of_range():
    for options, sentence in (
        ({"rho": 1.5}, "rho must be between 0 and 1, not 1.5"),
        ({"rho": -0.1}, "rho must be between 0 and 1, not -0.1"),
        ({"inner_steps": 2.5}, "inner_steps must be a whole number, at least 1, not 2.5"),
        ({"k1": -1.0}, "k1 must be finite and not negative"),
        ({"lr": 10.0}, "the steps diverge; give lr = .* or less"),
        ({"runs": 0}, "runs must be a whole number, at least 1, not 0"),
        ({"batch": 1.5}, "batch must be a whole number, at least 1, not 1.5"),
    ):
        with pytest.raises(lf.InputError, match=sentence):
            restorer("lmaps", **options)
    y = measured(operator_of())
    assert restorer("lmaps", k1=0.0)(y).isfinite().all()


def test_steps_that_diverge_for_one_operator_of_a_batch_are_refused():
    """At any of its noise levels, though only the second operator has such a curvature."""
    each = [operators.create("high_dynamic_range", SHAPE, gain=gain) for gain in (1.0, 4.0, 1.0)]
    preset = lf.Preset(2, 5, 0.1, 0.1, 10, sigma_max=1.0)
    assert lf.Restorer(each[0], denoiser, preset=preset).settings == [preset]
    with pytest.raises(lf.InputError, match=r"whose \|A\|\^2 is 16: the steps diverge"):
        lf.Restorer(operators.stack(each), denoiser, preset=preset)


@pytest.mark.parametrize("batch", [0, 2])
def test_seeds_are_natural_numbers(batch):
    restore, y = restorer("lmaps"), measured(operator_of())[:batch]
    for seed in (-1, 1.5, True, None, [0, -2][: batch or 1] * (batch > 0) or -3):
        with pytest.raises(lf.InputError, match="seed must be a whole number, at least 0"):
            restore(y, seed=seed)
    if batch:
        for arguments, sentence in (
            ({"seed": [1, 2, 3]}, "seed names 3 images but y holds 2"),
            ({"images": [1]}, "images names 1 images but y holds 2: give one number for each"),
            ({"images": [0, -1]}, "the number of an image must be a whole number, at least 0"),
        ):
            with pytest.raises(lf.InputError, match=sentence):
                restore(y, **arguments)
        assert torch.equal(restore(y, seed=[4, 5])[1:], restore(y[1:], seed=5))


@pytest.mark.parametrize("name", REGISTRY)
def test_no_images_in_none_out(name):
    called = []
    for dtype in (torch.float32, torch.float64):
        operator = operator_of(dtype)
        x = restorer(name, operator, lambda x, sigma: called.append(x))(measured(operator)[:0], callback=called.append)
        assert (x.shape, x.dtype) == ((0, *SHAPE), dtype)
    assert not called


@pytest.mark.parametrize("name", REGISTRY)
def test_denoisers_may_return_other_types(name):
    """What they return is taken in the operator's type; gradients go through it."""
    for operator in (operator_of(), operator_of(torch.float64)):
        y = measured(operator)
        expected = restorer(name, operator)(y)
        for dtype, tolerance in ((torch.bfloat16, 0.3), (torch.float64, 1e-4)):
            x = restorer(name, operator, lambda x, sigma, dtype=dtype: denoiser(x, sigma).to(dtype))(y)
            assert x.dtype == operator.dtype
            torch.testing.assert_close(x, expected, rtol=0, atol=tolerance)


class Modes:
    """A denoiser that keeps what modes it sees."""

    def __init__(self):
        self.seen = set()

    def __call__(self, x, sigma):
        cast = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
        self.seen.add((cast, torch.is_inference_mode_enabled()))
        return denoiser(x, sigma)


@pytest.mark.parametrize("name", REGISTRY)
def test_modes_of_torch_around_a_restoration_change_nothing(name):
    """Made and called inside of each mode, and made inside and called outside."""
    operator = operator_of()
    y, expected = measured(operator), restorer(name)(measured(operator))
    precision = torch.get_float32_matmul_precision()
    for mode in ("autocast", "inference", "grad", "float64", "medium"):
        modes, given = {"autocast": torch.autocast("cpu", torch.bfloat16), "inference": torch.inference_mode()}, Modes()
        try:
            if mode == "float64":
                torch.set_default_dtype(torch.float64)
            if mode == "medium":
                torch.set_float32_matmul_precision("medium")
            with modes.get(mode, torch.enable_grad()):
                inside = operator_of()
                made = restorer(name, inside, given)
                x = made(measured(inside))
            assert torch.equal(x, expected), mode
        finally:
            torch.set_default_dtype(torch.float32)
            torch.set_float32_matmul_precision(precision)
        assert given.seen == {(torch.bfloat16 if mode == "autocast" else None, False)}, mode
        assert not x.requires_grad
        assert not x.is_inference()
        assert torch.equal(made(y), expected), mode


class Factor:
    """A matrix whose products note the precision, and wait: of the first thread for the second to begin its own, and of
    the second for the first to end."""

    device = torch.device("cpu")

    def __init__(self, begun, wait, seen):
        self.begun, self.wait, self.seen = begun, wait, seen

    def __matmul__(self, other):
        self.begun.set()
        self.wait.wait(5)
        self.seen.append(torch.get_float32_matmul_precision())
        return self


def test_products_of_threads_keep_their_precision():
    began, ended, seen = threading.Event(), threading.Event(), []
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        one, two = threading.Event(), Factor(began, ended, seen)
        first = threading.Thread(target=door.product, args=(Factor(one, began, seen), None))
        second = threading.Thread(target=door.product, args=(two, None))
        first.start()
        one.wait(5)
        second.start()
        first.join()
        ended.set()
        second.join()
        assert seen == ["highest", "highest"]
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("name", REGISTRY)
@pytest.mark.filterwarnings("ignore:the noise levels")
def test_a_restorer_made_in_inference_mode_works_outside(name):
    """Its levels are saved for the gradient of a denoiser that takes them for each image."""
    operator, natural = operator_of(), lf.denoisers.load("natural", dtype=torch.float32)
    y, expected = measured(operator), restorer(name, operator, natural)(measured(operator))
    with torch.inference_mode():
        made = restorer(name, operator, natural)
    assert torch.equal(made(y), expected)


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x, condition):
        return self.conv(x) + condition.view(-1, 1, 1, 1)


@pytest.mark.parametrize("name", REGISTRY)
def test_a_compiled_denoiser_compiles_in_the_warm_up_alone(name):
    torch._dynamo.reset()
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    warm = restorer(name, given=EDM(torch.compile(Network(), backend=backend)), batch=2)
    known = len(graphs)
    assert known == (2 if name == "sitcom" else 1)  # sitcom calls it with its gradient and without
    warm(measured(operator_of()))
    assert len(graphs) == known


def test_a_warm_up_takes_one_step_under_the_modes_of_a_restoration():
    seen = []

    def given(x, sigma):
        seen.append((tuple(x.shape), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")))
        return denoiser(x, sigma)

    with torch.autocast("cpu", torch.bfloat16):
        restorer("lmaps", given=given, batch=2)
    assert seen == [((2, *SHAPE), False, True)]
    each = operators.stack([operators.create("inpainting_random", SHAPE, seed=seed) for seed in range(3)])
    with pytest.raises(lf.InputError, match="a batch of 2 but inpainting_random holds numbers for 3 images"):
        restorer("lmaps", each, batch=2)
    with pytest.raises(lf.InputError, match="y holds 2 images but there are settings for 3"):
        restorer("lmaps", steps=[2, 3, 4], batch=2)


@pytest.mark.parametrize("name", GRADIENTS)
def test_a_denoiser_without_gradients_is_refused(name):
    @torch.no_grad()
    def given(x, sigma):
        return denoiser(x, sigma)

    with pytest.raises(lf.InputError, match="needs the gradient of the denoiser, which has none"):
        restorer(name, given=given)(measured(operator_of()))


@pytest.mark.parametrize("name", REGISTRY)
def test_a_denoiser_that_returns_no_image_is_refused(name):
    for given, what in ((lambda x, s: x[:, :1], r"a tensor \[2, 1, 16, 24\]"), (lambda x, s: None, "a NoneType")):
        with pytest.raises(lf.InputError, match=f"the denoiser returned {what}.*: it must return a tensor"):
            restorer(name, given=given)(measured(operator_of()))
