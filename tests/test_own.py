"""Operators of a user's own: callables and deepinv physics."""

import pytest
import torch
import torch.nn.functional as F
from conftest import importable_torchvision, photo_like

import lmaps_fast as lf
from lmaps_fast.operators.structures import Autograd, Krylov

SHAPE = (3, 24, 32)
WEIGHTS = lf.local_map.Weights(0.1, 2.0, 0.2, 60)


def blur(x):
    kernel = torch.tensor([[0.1, 0.2, 0.0], [0.0, 0.3, 0.2], [0.1, 0.1, 0.0]], dtype=x.dtype)
    return F.conv2d(x, kernel.expand(3, 1, 3, 3), groups=3)[..., ::2, ::2]


def blur_adjoint(r):
    full = torch.zeros(len(r), 3, 22, 30, dtype=r.dtype)
    full[..., ::2, ::2] = r
    kernel = torch.tensor([[0.1, 0.2, 0.0], [0.0, 0.3, 0.2], [0.1, 0.1, 0.0]], dtype=r.dtype)
    return F.conv_transpose2d(full, kernel.expand(3, 1, 3, 3), groups=3)


def compare_with_loop(operator, tolerance):
    x = photo_like(2, SHAPE, torch.float64)
    y, D = operator.measure(x, noise=0.01), 0.7 * x
    loop = lf.local_map.gradient_descent(operator, D, y, WEIGHTS)
    assert (loop - D).norm() > 0.01
    assert (lf.local_map.solve(operator, D, y, WEIGHTS) - loop).norm() <= tolerance * (loop - D).norm()
    restored = lf.restore(y, operator, denoiser=lambda x, sigma: x / (1 + sigma**2), preset=PRESET)
    assert restored.shape == x.shape
    assert torch.isfinite(restored).all()


PRESET = lf.Preset(3, 30, 0.2, 0.3, 2.0)


@pytest.mark.parametrize("adjoint", [blur_adjoint, None], ids=["adjoint", "autograd"])
def test_linear_callable_collapses(adjoint):
    operator = lf.operators.from_callable(blur, SHAPE, adjoint=adjoint, linear=True, dtype=torch.float64)
    assert isinstance(operator, Krylov)
    assert operator.measurement_shape == (3, 11, 15)
    assert operator.check_adjoint() < 1e-12
    compare_with_loop(operator, operator.tolerance)


def test_complex_measurements_of_any_shape():
    def spectrum(x):
        return torch.fft.fft2(x.mean(1), norm="ortho")[:, :5].flatten(1)

    for linear in (True, False):
        operator = lf.operators.from_callable(spectrum, SHAPE, linear=linear, dtype=torch.float64)
        assert operator.measurement_shape == (5 * 32,)
        noise = operator.measure(torch.zeros(2, *SHAPE, dtype=torch.float64), noise=0.5)
        assert noise.is_complex()
        assert abs(noise.abs().square().mean().sqrt().item() - 0.5) < 0.05
        compare_with_loop(operator, operator.tolerance if linear else 0.0)


def test_nonlinear_callable_and_a_surrogate_gradient():
    def A(x):
        return x.tanh().mean((2, 3))

    operator = lf.operators.from_callable(A, SHAPE, dtype=torch.float64)
    assert isinstance(operator, Autograd)
    assert operator.measurement_shape == (3,)
    x, y = photo_like(2, SHAPE, torch.float64), torch.zeros(2, 3, dtype=torch.float64)
    expected = (1 - x.tanh() ** 2) * A(x)[..., None, None] / (24 * 32)
    torch.testing.assert_close(operator.gradient(x, y), expected)
    surrogate = lf.operators.from_callable(lambda x: x.round(), SHAPE, gradient=lambda x, y: x - y)
    assert torch.equal(surrogate.gradient(x, 0.5 * x), 0.5 * x)


def test_bad_callables():
    make = lf.operators.from_callable
    with pytest.raises(lf.InputError, match="A returned NaN or infinite"):
        make(lambda x: 1 / x, SHAPE)
    with pytest.raises(lf.InputError, match="it must return a tensor"):
        make(lambda x: x.tolist(), SHAPE)
    with pytest.raises(lf.InputError, match=r"it must map \[B, C, H, W\] to"):
        make(lambda x: x.sum(0), SHAPE)
    with pytest.raises(lf.InputError, match="leave out linear and adjoint"):
        make(blur, SHAPE, linear=True, gradient=lambda x, y: x)
    with pytest.raises(lf.InputError, match=r"shape must be \(channels, height, width\)"):
        make(blur, (24,))
    operator = make(blur, SHAPE, adjoint=lambda r: -blur_adjoint(r))
    with pytest.raises(lf.InputError, match="the adjoint of the operator of a callable does not belong to its A: <A x"):
        operator.check_adjoint()
    x = torch.zeros(1, *SHAPE)
    with pytest.raises(lf.InputError, match=r"check_adjoint\(\) tells"):
        lf.local_map.solve(operator, x, operator.measure(x), WEIGHTS)
    with pytest.raises(lf.InputError, match=r"has shape \[1, 3, 24, 32\]"):
        lf.local_map.solve(operator, x, x, WEIGHTS)
    with pytest.raises(lf.InputError, match="no preset 'natural' for the operator of a callable"):
        lf.restore(operator.measure(x), operator)


@pytest.fixture(scope="module")
def physics():
    pytest.importorskip("einops", reason="pip install deepinv torchvision (torchvision in the release for this torch)")
    with importable_torchvision():
        return pytest.importorskip("deepinv.physics", reason="pip install deepinv")


def test_linear_physics_of_deepinv(physics):
    kernel = torch.rand(1, 1, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    blur = physics.Blur(filter=kernel / kernel.sum(), padding="valid")
    operator = lf.operators.from_deepinv(blur, SHAPE, dtype=torch.float64)
    assert isinstance(operator, Krylov)
    x = photo_like(2, SHAPE, torch.float64)
    torch.testing.assert_close(operator(x), blur.A(x / 2 + 0.5))
    assert operator.check_adjoint() < 1e-12
    compare_with_loop(operator, operator.tolerance)
    mask = (torch.rand(1, 24, 32, generator=torch.Generator().manual_seed(0)) > 0.5).double()
    inpainting = physics.Inpainting(img_size=SHAPE, mask=mask)
    compare_with_loop(lf.operators.from_deepinv(inpainting, SHAPE, dtype=torch.float64), 1e-3)


def test_nonlinear_physics_of_deepinv(physics):
    with pytest.raises(lf.InputError, match="has no A: give a deepinv physics"):
        lf.operators.from_deepinv(object(), SHAPE)
    hdr = physics.Physics(lambda x, **_: (2 * x).clamp(0, 1).square())
    operator = lf.operators.from_deepinv(hdr, SHAPE, dtype=torch.float64)
    assert isinstance(operator, Autograd)
    compare_with_loop(operator, 0.0)


SETTINGS = {"lmaps": {"preset": lf.Preset(4, 60, 0.5, 0.25, 2.0, sigma_max=2.0, sigma_min=0.05)}, "daps": {"lr": 1e-5}}


@pytest.mark.parametrize("solver", ["lmaps", "daps", "sitcom", "dps", "pigdm", "tmpd", "diffpir"])
def test_every_solver_takes_an_affine_operator_for_what_it_is(physics, solver):
    """A(x) = B x + c with the measurement y is B with y - c: directions must not be given the constant."""
    kernel = torch.rand(1, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    blur = physics.Blur(filter=kernel / kernel.sum(), padding="circular")
    affine = lf.operators.from_deepinv(blur, SHAPE)
    linear = lf.operators.from_callable(lambda x: blur.A(x / 2), SHAPE, adjoint=lambda r: blur.A_adjoint(r) / 2)
    y = affine.measure(photo_like(2, SHAPE, torch.float32), noise=0.02)
    constant = affine(torch.zeros(1, *SHAPE))
    assert constant.abs().max() > 0.1
    assert affine.check_adjoint() < 1e-5

    def prior(x, sigma):
        return x / (1 + sigma**2)

    options = {"steps": 4, "seed": 1, "solver": solver, **SETTINGS.get(solver, {})}
    settings = lf.solvers.REGISTRY[solver].published("gaussian_deblurring")
    options.setdefault("preset", settings)
    one, other = (lf.restore(v, op, prior, **options) for v, op in ((y, affine), (y - constant, linear)))
    assert one.isfinite().all()
    torch.testing.assert_close(one, other, rtol=5e-3, atol=5e-3)
