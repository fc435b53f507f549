"""Large images: banded products against the matrix, tiles against the loop, and sides that no matrix could have."""

import dataclasses
import re
from pathlib import Path

import pytest
import torch
from conftest import photo_like

import lmaps_fast as lf
from lmaps_fast.operators import structures
from lmaps_fast.operators.convolution import reflect_factor
from lmaps_fast.operators.gaussian_deblurring import gaussian_kernel
from lmaps_fast.operators.motion_deblurring import motion_kernel
from lmaps_fast.operators.structures import columns, reflect_blur, tiles
from lmaps_fast.operators.structures.banded import Factor, add_product, product
from lmaps_fast.operators.super_resolution import METHODS, reduction


def reduced(method: str, scale: int) -> Factor:
    taps = torch.tensor([scale, list(METHODS).index(method)], dtype=torch.float64)
    return Factor(reduction, taps, scale, int(METHODS[method][1] * scale))


LOPSIDED = torch.tensor([0.1, 0.4, 0.3, 0.1, 0.05], dtype=torch.float64)
FACTORS = {
    "gaussian": reflect_factor(gaussian_kernel(3.0)),
    "wide gaussian": reflect_factor(gaussian_kernel(10.0)),
    "lopsided": reflect_factor(LOPSIDED),
    "one tap": reflect_factor(torch.ones(1, dtype=torch.float64)),
    "bicubic 4": reduced("bicubic", 4),
    "bicubic 3": reduced("bicubic", 3),
    "average 2": reduced("average", 2),
}
CASES = {
    "gaussian": ("gaussian", "gaussian"),
    "lopsided and gaussian": ("lopsided", "gaussian"),
    "bicubic 4": ("bicubic 4", "bicubic 4"),
    "average 2": ("average 2", "average 2"),
}


def large(case: str, shape: tuple[int, int, int], dtype: torch.dtype) -> structures.Kronecker:
    rows, columns = (FACTORS[name] for name in CASES[case])
    return structures.Kronecker(shape, rows, columns, dtype, crossover=64)


def dense(case: str, shape: tuple[int, int, int]) -> structures.Kronecker:
    rows, columns = (FACTORS[name].matrix(n) for name, n in zip(CASES[case], shape[1:], strict=True))
    return structures.Kronecker(shape, rows, columns, torch.float64)


@pytest.mark.parametrize("n", [90, 131, 300, 701])
@pytest.mark.parametrize("name", FACTORS)
def test_blocks_are_the_matrix(name, n):
    matrix = FACTORS[name].matrix(n)
    factor = FACTORS[name]
    for cut, whole in ((factor.bands, matrix), (factor.transposed, matrix.T)):
        blocks = cut(n, torch.float64, "cpu")
        built = torch.zeros_like(whole)
        for block in blocks:
            built[block.rows, block.columns] += block.matrix
        assert torch.equal(built, whole)


@pytest.mark.parametrize("case", CASES)
def test_products_are_those_of_the_matrices(case):
    shape = (2, 301, 170)
    operator, matrices = large(case, shape, torch.float64), dense(case, shape)
    x, r = photo_like(2, shape, torch.float64), photo_like(2, matrices.measurement_shape, torch.float64)
    assert operator.measurement_shape == matrices.measurement_shape
    torch.testing.assert_close(operator(x), matrices(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(operator.adjoint(r), matrices.adjoint(r), rtol=1e-12, atol=1e-12)


def test_a_product_is_added_to_what_is_there():
    rows = FACTORS["gaussian"].bands(200, torch.float64, "cpu")
    x = photo_like(1, (1, 200, 200), torch.float64)
    expected = x - product(rows, x, rows)
    torch.testing.assert_close(add_product(x.clone(), rows, x, rows, alpha=-1), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("n", "length", "overlap"), [(64, 64, 20), (65, 64, 20), (700, 64, 20), (101, 64, 31)])
def test_tiles_cover_every_pixel_once(n, length, overlap):
    known = 0
    for tile in tiles.cut(n, length, overlap):
        assert tile.stop - tile.start <= length
        assert tile.start + tile.first == known
        assert tile.start == 0 or tile.first >= overlap
        assert tile.stop == n or tile.stop - tile.start - tile.last >= overlap
        known = tile.start + tile.last
    assert known == n


# The noise in y is what tiles do worst at.
@pytest.mark.parametrize("step", [0.3, 0.95, 1.9])
@pytest.mark.parametrize("steps", [1, 100])
@pytest.mark.parametrize("case", CASES)
def test_tiles_keep_the_tolerance(case, steps, step):
    shape = (3, 1100, 700)
    operator, exact = large(case, shape, torch.float32), dense(case, shape)
    D = photo_like(1, shape, torch.float64)
    y = exact(photo_like(1, shape, torch.float64, seed=1))
    y += 0.05 * torch.randn(y.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = lf.local_map.Weights(lam=0.02, k2=step / exact.s.max().item() / 0.01, lr=0.01, steps=steps)
    expected = lf.local_map.solve(exact, D, y, weights) - D
    update = lf.local_map.solve(operator, D.float(), y.float(), weights).double() - D
    assert (update - expected).norm() <= tiles.TOLERANCE * expected.norm()


@pytest.mark.parametrize("case", ["gaussian", "bicubic 4"])
def test_more_steps_than_tiles_are_cut_for(case):
    shape = (1, 200, 150)
    operator, exact = large(case, shape, torch.float64), dense(case, shape)
    D = photo_like(1, shape, torch.float64)
    y = exact(photo_like(1, shape, torch.float64, seed=1))
    weights = lf.local_map.Weights(lam=0.02, k2=90 / exact.s.max().item(), lr=0.01, steps=3 * tiles.MOST_STEPS)
    expected = lf.local_map.solve(exact, D, y, weights) - D
    update = lf.local_map.solve(operator, D, y, weights) - D
    assert (update - expected).norm() <= 2 * tiles.TOLERANCE * expected.norm()


def test_the_eigenbasis_of_a_large_image_is_made_when_it_is_asked_for():
    shape = (1, 96, 80)
    operator, exact = large("bicubic 4", shape, torch.float64), dense("bicubic 4", shape)
    assert "_whole" not in vars(operator)
    y = photo_like(1, exact.measurement_shape, torch.float64)
    assert torch.equal(operator.singular_values, exact.singular_values)
    torch.testing.assert_close(operator.pinv(operator.precompute(y)), exact.pinv(exact.precompute(y)))


@pytest.mark.parametrize("shape", [(1, 701, 900), (1, 100, 4000), (1, 641, 1111)])
def test_a_reflected_blur_in_tiles(shape, monkeypatch):
    kernel = motion_kernel(0, size=21)
    whole = structures.ReflectBlur(shape, kernel, torch.float64)
    monkeypatch.setattr(reflect_blur, "TILE", 128)
    operator = structures.ReflectBlur(shape, kernel, torch.float64)
    assert (whole.large, operator.large) == (False, True)
    x = photo_like(1, shape, torch.float64)
    for name in ("forward", "adjoint", "normal"):
        torch.testing.assert_close(getattr(operator, name)(x), getattr(whole, name)(x), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("size", [(201, 140), (150, 151)])
@pytest.mark.parametrize("task", ["motion_deblurring", "phase_retrieval"])
def test_columns_a_few_at_a_time(task, size, monkeypatch):
    arguments = {"padding": "circular"} if task == "motion_deblurring" else {}
    made = [lf.operators.create(task, shape=(3, *size), dtype=torch.float64, **arguments)]
    monkeypatch.setattr(columns, "LARGE", 1000)
    made.append(lf.operators.create(task, shape=(3, *size), dtype=torch.float64, **arguments))
    assert [operator.large for operator in made] == [False, True]
    D = photo_like(2, (3, *size), torch.float64)
    y = made[0].measure(photo_like(2, (3, *size), torch.float64, seed=1))
    weights = dataclasses.replace(lf.operators.preset(task).weights(1.0), steps=10)
    expected, x = (lf.local_map.solve(operator, D, y, weights) for operator in made)
    torch.testing.assert_close(x, expected, rtol=1e-10, atol=1e-11)
    if task == "motion_deblurring":
        torch.testing.assert_close(made[1].s, made[0].s, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(made[1].spectrum_s, made[0].spectrum_s, rtol=1e-12, atol=1e-12)


def memory(field: str) -> int:
    """In bytes, of this process."""
    return int(re.search(field + r":\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux keeps and resets the peak")
@pytest.mark.parametrize("task", sorted(lf.operators.REGISTRY))
def test_a_side_of_65000_pixels(task):
    if task == "nonlinear_deblurring":
        pytest.skip("its network takes minutes and many GB here")
    shape = (1, 100, 65000)
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    operator = lf.operators.create(task, shape=shape)
    D = photo_like(1, shape, torch.float32)
    y = operator.measure(D)
    weights = dataclasses.replace(lf.operators.preset(task).weights(1.0), steps=3)
    x = lf.local_map.solve(operator, D + 0.1, y, weights)
    assert torch.isfinite(x).all()
    assert memory("VmHWM") - before < 60 * D.nbytes + (200 << 20)  # 1.8 GB, where a matrix would take 34


@pytest.mark.parametrize("task", ["gaussian_deblurring", "super_resolution"])
def test_singular_values_of_a_side_of_65000_pixels(task):
    operator = lf.operators.create(task, shape=(1, 100, 65000))
    with pytest.raises(lf.InputError, match="use a solver that does not ask for them"):
        _ = operator.singular_values
