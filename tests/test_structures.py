"""The structures on their own: each against its matrix, in float64, and the capabilities that other solvers use."""

import pytest
import torch
from conftest import photo_like, random_weights

import lmaps_fast as lf
from lmaps_fast.operators import structures
from lmaps_fast.operators.structures import polynomial

SHAPE = (2, 12, 18)
N = 2 * 12 * 18


def draw(*size, seed=0):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


MADE = {
    "Diagonal": lambda: structures.Diagonal(SHAPE, (draw(12, 18) > 0) * draw(12, 18, seed=1).abs(), torch.float64),
    "Kronecker": lambda: structures.Kronecker(SHAPE, draw(7, 12) / 4, draw(18, 18) / 4, torch.float64),
    "Kronecker not halved": lambda: structures.Kronecker(SHAPE, even(6, 12), even(9, 18), torch.float64, halve=False),
    "Kronecker with parities": lambda: structures.Kronecker(SHAPE, even(6, 12), even(9, 18), torch.float64),
    "Fourier": lambda: structures.Fourier(SHAPE, draw(3, 5) / 4, torch.float64),
    "Fourier, odd width": lambda: structures.Fourier((2, 12, 17), draw(5, 3) / 4, torch.float64),
    "Dense": lambda: structures.Dense(SHAPE, draw(50, N) / 20, torch.float64),
    "BlockDiagonal": lambda: structures.BlockDiagonal(SHAPE, draw(12, 10, 36) / 6, torch.float64),
    "ReflectBlur": lambda: structures.ReflectBlur(SHAPE, draw(5, 3) / 4, torch.float64),
}


def even(m, n):
    """A matrix [m, n] that commutes with the mirror."""
    G = draw(m, n) / 4
    return 0.5 * (G + G.flip(0, 1))


@pytest.fixture(params=MADE)
def operator(request):
    return MADE[request.param]()


def matrix(operator):
    """A as a matrix [measured, pixels]."""
    basis = torch.eye(operator.shape[0] * operator.shape[1] * operator.shape[2], dtype=torch.float64)
    return operator(basis.view(-1, *operator.shape)).flatten(1).T


def test_adjoint_is_the_transpose(operator):
    A = matrix(operator)
    r = draw(2, *operator.measurement_shape)
    torch.testing.assert_close(operator.adjoint(r).flatten(1), r.flatten(1) @ A, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("steps", [1, 40])
def test_local_map_is_the_loop(operator, steps, generator):
    D, y = photo_like(2, operator.shape, torch.float64), draw(2, *operator.measurement_shape)
    norm = torch.linalg.matrix_norm(matrix(operator), 2).item()
    weights = random_weights("", generator, steps)
    weights = lf.local_map.Weights(weights.lam, weights.k2, weights.lr / max(1, norm**2), steps)
    loop = lf.local_map.gradient_descent(operator, D, y, weights)
    tolerance = operator.tolerance if isinstance(operator, structures.Krylov) else 1e-10
    result = lf.local_map.solve(operator, D, y, weights)
    assert (result - loop).norm() <= tolerance * (loop - D).norm()


def test_prox_solves_its_equation(operator):
    v, y, gamma = photo_like(2, operator.shape, torch.float64), draw(2, *operator.measurement_shape), 3.0
    x = operator.prox(v, operator.precompute(y), gamma)
    residual = gamma * operator.adjoint(operator(x) - y) + x - v
    start = gamma * operator.adjoint(operator(v) - y)
    assert residual.norm() <= (1e-2 if isinstance(operator, structures.Krylov) else 1e-10) * start.norm()


def test_pseudo_inverse_and_singular_vectors(operator):
    if isinstance(operator, structures.Krylov):
        assert not hasattr(operator, "pinv")  # it knows no basis
        return
    A, x, y = matrix(operator), photo_like(2, operator.shape, torch.float64), draw(2, *operator.measurement_shape)
    expected = y.flatten(1) @ torch.linalg.pinv(A, rtol=1e-10).T
    torch.testing.assert_close(operator.pinv(operator.precompute(y)).flatten(1), expected, rtol=1e-7, atol=1e-7)
    u = operator.to_eigenbasis(x)
    # An orthonormal basis: what the thin ones leave out is the null space.
    torch.testing.assert_close(operator.to_eigenbasis(operator.from_eigenbasis(u)), u, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(operator(operator.from_eigenbasis(u)), operator(x), rtol=1e-9, atol=1e-9)
    # A maps V^T x to U^T A x by its singular values.
    mapped = operator.measured_coefficients(operator(x))
    torch.testing.assert_close(mapped, operator.singular_values * u, rtol=1e-6, atol=1e-6)
    values = torch.linalg.svdvals(A)
    largest = operator.singular_values.expand_as(u)[0].flatten().sort(descending=True).values[: len(values)]
    torch.testing.assert_close(largest, values[: len(largest)], rtol=1e-6, atol=1e-6)


def test_a_thin_basis_has_the_rank_of_the_operator():
    operator = lf.operators.create("super_resolution", (3, 64, 48), dtype=torch.float64)
    assert operator.s.numel() == 16 * 12
    assert structures.Dense(SHAPE, torch.cat([draw(20, N)] * 2), torch.float64).s.numel() == 20


@pytest.mark.parametrize("tolerance", [1e-2, 1e-3, 1e-7])
def test_krylov_keeps_its_tolerance_with_few_applications(tolerance, generator):
    operator = lf.operators.create("motion_deblurring", (3, 64, 64), seed=1, dtype=torch.float64)
    operator.tolerance = tolerance
    x = photo_like(2, operator.shape, torch.float64)
    D, y = x + 0.2 * torch.randn(x.shape, generator=generator, dtype=torch.float64), operator.measure(x)
    applications, normal = [], operator.normal
    for sigma in (10.0, 1.0, 0.1):
        weights = lf.operators.preset("motion_deblurring", "paper").weights(sigma)
        loop = lf.local_map.gradient_descent(operator, D, y, weights)
        operator.local_map(D, y, weights)
        operator.normal = lambda v: applications.append(1) or normal(v)
        result = operator.local_map(D, y, weights)
        operator.normal = normal
        assert (result - loop).norm() < tolerance * (loop - D).norm()
        assert len(applications) < {1e-2: 28, 1e-3: 36, 1e-7: 56}[tolerance]
        applications.clear()


def test_krylov_is_exact_for_few_steps_and_goes_on_for_many(generator):
    operator = lf.operators.create("motion_deblurring", (3, 48, 48), seed=1, dtype=torch.float64)
    operator.tolerance = 1e-12
    D, y = draw(1, 3, 48, 48), draw(1, 3, 48, 48, seed=1)
    for steps, error, terms in ((5, 1e-12, 5), (2000, 1e-9, 2 * polynomial.FIRST_TERMS)):
        weights = lf.local_map.Weights(0.001, 1.0, 0.9, steps)
        loop = lf.local_map.gradient_descent(operator, D, y, weights)
        result = operator.local_map(D, y, weights)
        assert (result - loop).norm() < error * (loop - D).norm()
        assert max(operator.polynomials.known) >= terms


def test_krylov_says_when_it_cannot_keep_its_tolerance(monkeypatch):
    monkeypatch.setattr(polynomial, "MOST_TERMS", polynomial.FIRST_TERMS)
    operator = lf.operators.create("motion_deblurring", (3, 48, 48), seed=1, dtype=torch.float64)
    v, y = draw(1, 3, 48, 48), draw(1, 3, 48, 48, seed=1)
    with pytest.warns(UserWarning, match="48 applications of A.T A do not reach the tolerance of 0.001"):
        operator.prox(v, y, 1e9)


@pytest.mark.parametrize("A", [lambda x: 0.5 * x, lambda x: x * (torch.arange(18) < 9), lambda x: 0 * x])
def test_krylov_ends_where_the_spectrum_has_few_points(A):
    operator = lf.operators.from_callable(A, SHAPE, linear=True, dtype=torch.float64)
    D, y, weights = draw(2, *SHAPE), draw(2, *SHAPE, seed=1), lf.local_map.Weights(0.2, 1.0, 0.5, 100)
    loop = lf.local_map.gradient_descent(operator, D, y, weights)
    torch.testing.assert_close(operator.local_map(D, y, weights), loop, rtol=1e-9, atol=1e-9)
    assert operator.polynomials.recurrence(polynomial.FIRST_TERMS).ended


def test_krylov_treats_each_image_alone(generator):
    operator = lf.operators.create("motion_deblurring", (3, 40, 48), dtype=torch.float64)
    D, y = draw(3, 3, 40, 48), draw(3, 3, 40, 48, seed=1)
    weights = random_weights("motion_deblurring", generator, 100)
    whole = operator.local_map(D, y, weights)
    torch.testing.assert_close(operator.local_map(D[1:2], y[1:2], weights)[0], whole[1], rtol=1e-12, atol=1e-12)


def test_wrong_shapes():
    with pytest.raises(lf.InputError, match=r"need \[m, 432\]"):
        structures.Dense(SHAPE, draw(5, 10))
    with pytest.raises(lf.InputError, match=r"need \[12, m, 36\]"):
        structures.BlockDiagonal(SHAPE, draw(12, 10, 18))
    with pytest.raises(lf.InputError, match="the kernel is 19x3 but the image is 18x12"):
        structures.Fourier(SHAPE, draw(3, 19))
    with pytest.raises(lf.InputError, match="the operator here needs"):
        structures.Fourier(SHAPE, draw(3, 3)).measure(torch.zeros(1, 2, 12, 12))
