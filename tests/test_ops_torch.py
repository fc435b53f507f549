"""The operations as citizens of torch: torch.compile, gradients, pickles and copies."""

import copy
import pickle

import pytest
import torch
from conftest import photo_like
from op_samples import KEYS, MOST, SAMPLES, TABLES, WEIGHTS, B, images, levels
from torch.autograd import gradcheck, gradgradcheck

import lmaps_fast as lf
from lmaps_fast import ops
from lmaps_fast.ops.jpeg_codec import JpegCodec
from lmaps_fast.weights import Weights, WeightTable, table

D, Y = (images(2, 5, 7, dtype=torch.float64, seed=seed) for seed in (0, 1))
S = images(1, 5, 7, dtype=torch.float64, seed=2).abs()
JPEG_D, JPEG_Y = (photo_like(B, (3, 18, 21), torch.float64, seed=seed) for seed in (0, 1))
CODEC = JpegCodec(3, TABLES, (2, 2), True)
STEP_D, STEP_F = D.float(), Y.float()
GAINS, INTERVALS = [2.0, 1.5, 0.7], torch.tensor([3.0, 7.0, 16.0])


def stepped(x, F, weights, backend=None):
    """ops.step as a function: what it leaves in x, x0 and the next network input."""
    rows = levels().clone()
    known = table(weights, x.device)
    rows[:, :4] = known.values
    x, x0, network_input = x.clone(), torch.empty_like(x), torch.empty_like(x)
    ops.step(
        ops.PixelMap("diagonal_map", F, (S.float(),)), x, x0, network_input, F, keys=KEYS, levels=rows,
        most=known.most, backend=backend,
    )  # fmt: skip
    return torch.cat((x, x0, network_input))


# The public functions of two tensors, with numbers that differ between images: (tensors, function).
PUBLIC = {
    "diagonal_map": ((D, Y), lambda D, b, w, **backend: ops.diagonal_map(D, b, S, w, **backend)),
    "spectral_update": ((D, Y), lambda D, b, w, **backend: ops.spectral_update(D, b, S[:, 0], w, **backend)),
    "clip_map": ((D, Y), lambda D, y, w, **backend: ops.clip_map(D, y, GAINS, 1.0, 0.5, w, **backend)),
    "quantization_map": ((D, Y), lambda D, y, w, **backend: ops.quantization_map(D, y, INTERVALS, w, **backend)),
    "jpeg_map": ((JPEG_D, JPEG_Y), lambda D, y, w, **backend: ops.jpeg_map(D, y, CODEC, w, **backend)),
    "add_normal": ((D, Y), lambda D, y, w, **backend: ops.add_normal(D, KEYS, 3, [0.1, 0.2, 0.0], **backend) * y),
    "phase_projection": (
        (torch.complex(D, Y), torch.stack((Y, Y), -1)),
        lambda X, y, w, **backend: ops.phase_projection(X, y, **backend),
    ),
    "step": ((STEP_D, STEP_F), lambda x, F, w, **backend: stepped(x, F, w, **backend)),
}
GRADIENTS = [name for name, operation in ops.REGISTRY.items() if operation.gradient]
SURROGATES = ("quantization_map", "jpeg_map")  # whose gradient is not that of what they return


def test_every_operation_is_here():
    assert set(PUBLIC) == set(ops.REGISTRY)


def leaves(name):
    return [tensor.clone().requires_grad_() for tensor in PUBLIC[name][0]]


# --- torch.compile


@pytest.fixture(autouse=True)
def forgotten():
    torch._dynamo.reset()


@pytest.mark.parametrize("backend", [None, "torch"])
@pytest.mark.parametrize("name", PUBLIC)
def test_the_public_functions_compile(name, backend):
    """Whole, with weights given as `Weights`, as a list of them, and from outside."""
    tensors, function = PUBLIC[name]
    few = [Weights(w.lam, w.k2, w.lr, min(w.steps, 2)) for w in WEIGHTS]
    compiled = torch.compile(function, backend="aot_eager", fullgraph=True)
    enclosed = torch.compile(
        lambda *given: function(*given, few[0], backend=backend), backend="aot_eager", fullgraph=True
    )
    for weights in (few[1], few):
        assert torch.equal(compiled(*tensors, weights, backend=backend), function(*tensors, weights, backend=backend))
    assert torch.equal(enclosed(*tensors), function(*tensors, few[0], backend=backend))


@pytest.mark.parametrize("name", PUBLIC)
def test_compile_takes_the_backend_that_holds_as_it_traces(name):
    tensors, function = PUBLIC[name]
    with lf.use_backend("torch"):
        compiled = torch.compile(function, backend="aot_eager", fullgraph=True)(*tensors, WEIGHTS[0])
        assert torch.equal(compiled, function(*tensors, WEIGHTS[0]))


def test_what_inductor_makes_of_the_form():
    compiled = torch.compile(lambda D, y: ops.diagonal_map(D, y, S, WEIGHTS, backend="torch") + 1, fullgraph=True)
    torch.testing.assert_close(compiled(D, Y), ops.diagonal_map(D, Y, S, WEIGHTS) + 1)


@pytest.mark.parametrize("backend", [None, "torch"])
@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_under_compile(name, backend):
    few = [Weights(w.lam, w.k2, w.lr, min(w.steps, 2)) for w in WEIGHTS]

    def loss(first, second):
        return PUBLIC[name][1](first, second, few, backend=backend).abs().square().sum()

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    expected, got = (
        torch.autograd.grad(run(*inputs), inputs) for run in (loss, compiled) for inputs in (leaves(name),)
    )
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other)


# --- gradients


@pytest.mark.parametrize("backend", ["cpu", "torch"])
@pytest.mark.parametrize("name", [name for name in GRADIENTS if name not in SURROGATES])
def test_gradcheck(name, backend):
    inputs, function = leaves(name), PUBLIC[name][1]
    if name == "add_normal":  # float32 inside, so no finite differences of y
        inputs[1] = torch.ones_like(inputs[1])
    if name == "phase_projection":  # y holds each magnitude twice
        call = lambda X, y: function(X, y[..., :1].expand(*y.shape), None, backend=backend)  # noqa: E731
    else:
        call = lambda first, second: function(first, second, WEIGHTS, backend=backend)  # noqa: E731
    assert gradcheck(call, inputs, fast_mode=True)
    assert gradgradcheck(call, inputs, fast_mode=True)


def straight_through(name, D, y, weights):
    """The K steps for autograd, with the identity for the Jacobian of A."""
    A = CODEC if name == "jpeg_map" else lambda x: 2 * (n * (x + 1) / 2 + 0.5).floor() / n - 1
    n = INTERVALS.double().view(-1, 1, 1, 1)
    lam, c, lr, K = table(weights, D.device).columns(D)
    x = D
    for k in range(MOST):
        moved = x - lr * (lam * (x - D) + c * (x + (A(x) - x).detach() - y))
        x = torch.where(k < K, moved, x)
    return x


@pytest.mark.parametrize("backend", ["cpu", "torch"])
@pytest.mark.parametrize("name", SURROGATES)
def test_surrogate_gradients_are_those_of_the_loop(name, backend):
    inputs, cotangent = leaves(name), photo_like(B, PUBLIC[name][0][0].shape[1:], torch.float64, seed=7)
    result = PUBLIC[name][1](*inputs, WEIGHTS, backend=backend)
    expected = straight_through(name, *inputs, WEIGHTS)
    if name == "quantization_map":  # of JPEG too, where y lies on the lattice
        torch.testing.assert_close(result, expected)
    got, wanted = (torch.autograd.grad(out, inputs, cotangent) for out in (result, expected))
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("backend", ["cpu", "torch"])
@pytest.mark.parametrize(
    ("name", "constant"),
    [
        ("diagonal_map", "s"),
        ("diagonal_map", "weights"),
        ("spectral_update", "s"),
        ("clip_map", "parameters"),
        ("quantization_map", "parameters"),
        ("jpeg_map", "tables"),
        ("jpeg_map", "weights"),
        ("add_normal", "sigma"),
    ],
)
def test_constants_have_no_gradient(name, constant, backend):
    _, arguments = next(sample for sample in SAMPLES.values() if sample[0] == name and sample[1][0].is_floating_point())
    operation = ops.REGISTRY[name]
    given = list(arguments)
    place = operation.parameters.index(constant)
    given[place] = given[place].clone().requires_grad_()
    with pytest.raises(lf.InputError, match=f"{name} has no gradient with respect to {constant}: detach it"):
        operation(backend, *given)
    with torch.no_grad():
        assert not operation(backend, *given).requires_grad


def test_gradients_of_a_constant_of_the_public_function():
    with pytest.raises(lf.InputError, match="diagonal_map has no gradient with respect to s: detach it"):
        ops.diagonal_map(D, Y, S.clone().requires_grad_(), WEIGHTS)


# --- pickles and copies


@pytest.mark.parametrize(
    "through", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))], ids=["copy", "pickle"]
)
def test_copies(through):
    pixel_map = ops.PixelMap("jpeg_map", JPEG_Y, (TABLES,), (2, 2), True)
    known = table(WEIGHTS, D.device)
    other_map, codec, weights, other_table = map(through, (pixel_map, CODEC, WEIGHTS, known))
    assert type(other_map) is ops.PixelMap
    assert weights == WEIGHTS
    assert isinstance(other_table, WeightTable)
    expected = ops.jpeg_map(JPEG_D, JPEG_Y, CODEC, WEIGHTS)
    assert torch.equal(other_map(JPEG_D, other_table), expected)
    assert torch.equal(ops.jpeg_map(JPEG_D, JPEG_Y, codec, weights), expected)
