"""The native core: every instruction set, threads, registration with torch, and checks."""

import os
import subprocess
import sys

import pytest
import torch
from conftest import COLLAPSED, QUANTIZED, photo_like, random_weights

import lmaps_fast as lf
from lmaps_fast.ops import backends
from lmaps_fast.weights import table

extension = backends.native()

# One local MAP per task, its result saved: run in a process of its own, since an instruction set is chosen once.
SCRIPT = """
import sys, torch, lmaps_fast as lf
sys.path.insert(0, sys.argv[2])
from conftest import COLLAPSED, photo_like, random_weights
from lmaps_fast import _C
import os
assert _C.isa() == os.environ["LMAPS_FAST_ISA"]
out = {}
for dtype in (torch.float64, torch.float32):
    for shape in ((3, 37, 53), (1, 40, 48)):
        for task in COLLAPSED:
            operator = lf.operators.create(task, shape, dtype=dtype)
            x = photo_like(2, shape, dtype)
            D = photo_like(2, shape, dtype, seed=5)
            weights = random_weights(task, torch.Generator().manual_seed(1), 100)
            key = f"{task} {shape} {dtype}"
            out[key] = lf.local_map.solve(operator, D, operator.measure(x, noise=0.0), weights, backend="cpu")
torch.save(out, sys.argv[1])
"""


def test_the_extension_is_built():
    assert not isinstance(extension, str), extension


def results(isa, path):
    environment = {**os.environ, "LMAPS_FAST_ISA": isa}
    command = [sys.executable, "-c", SCRIPT, str(path), os.path.dirname(__file__)]
    subprocess.run(command, check=True, env=environment)
    return torch.load(path)


def test_every_isa_of_this_machine_reaches_the_same_numbers(tmp_path):
    available = extension.available_isas()
    assert "baseline" in available
    base = results("baseline", tmp_path / "baseline.pt")
    for isa in available[1:]:
        for key, value in results(isa, tmp_path / f"{isa}.pt").items():
            if key.startswith(QUANTIZED) and value.dtype == torch.float32:  # rounding boundaries: flips
                assert ((value - base[key]).abs() > 1e-4).double().mean() < 2e-3, (isa, key)
            else:
                # The polynomials of motion deblurring hang on random numbers, which are equal to float32 only.
                loose = key.startswith(("phase", "motion"))
                tolerance = (1e-6 if loose else 1e-12) if value.dtype == torch.float64 else (1e-3 if loose else 2e-5)
                torch.testing.assert_close(value, base[key], rtol=tolerance, atol=tolerance, msg=f"{isa} {key}")


def test_an_isa_that_is_not_there_is_refused_in_one_sentence():
    code = "from lmaps_fast import _C; _C.isa()"
    environment = {**os.environ, "LMAPS_FAST_ISA": "avx9000"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "LMAPS_FAST_ISA=avx9000 cannot run here" in run.stderr


def test_openmp_is_on():
    assert extension.thread_count(2) == 2
    assert extension.thread_count(1) == 1


def test_thread_count_does_not_change_the_result(generator):
    for task in COLLAPSED:
        operator = lf.operators.create(task, (3, 48, 70))
        y, D = operator.measure(photo_like(1, operator.shape, torch.float32)), torch.zeros(1, 3, 48, 70)
        weights = random_weights(task, generator, 30)
        two = lf.local_map.solve(operator, D, y, weights, backend="cpu")
        torch.set_num_threads(1)
        one = lf.local_map.solve(operator, D, y, weights, backend="cpu")
        torch.set_num_threads(2)
        # The products and Fourier transforms of torch may sum in another order.
        exact = task.startswith(("inpainting", "high", "jpeg", "quantization", "denoising"))
        assert torch.equal(one, two) if exact else (one - two).norm() < 1e-4 * one.norm()


def test_compile():
    D, y, s = torch.randn(2, 3, 9, 11), torch.randn(2, 3, 9, 11), torch.rand(1, 1, 9, 11)
    known = table(lf.local_map.Weights(0.3, 2.0, 0.1, 10), D.device)
    call = torch.ops.lmaps_fast.diagonal_map
    compiled = torch.compile(lambda d: call(d, y, s, known.values, known.most) + 1, backend="aot_eager")
    torch.testing.assert_close(compiled(D), call(D, y, s, known.values, known.most) + 1)


def test_nan_is_passed_on():
    D, y, s = torch.full((1, 1, 16, 16), float("nan")), torch.zeros(1, 1, 16, 16), torch.ones(1, 1, 16, 16)
    weights = lf.local_map.Weights(0.2, 5.0, 0.05, 20)
    for result in (
        lf.ops.diagonal_map(D, y, s, weights, backend="cpu"),
        lf.ops.spectral_update(D, y, s[0], weights, backend="cpu"),
        lf.ops.clip_map(D, y, 2.0, 2.0, 2.0, weights, backend="cpu"),
        lf.ops.clip_map(D, y, 2.0, 2.0, 0.0, weights, backend="cpu"),
        lf.ops.quantization_map(D, y, 3, weights, backend="cpu"),
        lf.ops.phase_projection(torch.complex(D, D), torch.ones(1, 1, 16, 16, 2), backend="cpu"),
    ):
        assert result.isnan().all()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda D, b, s: (D.half(), b, s), "D must be float32 or float64"),
        (lambda D, b, s: (D, b.double(), s), "b is torch.float64 but D is torch.float32"),
        (lambda D, b, s: (D, b.mT.contiguous().mT, s), "b is not contiguous"),
        (lambda D, b, s: (D, b[:1], s), "b has shape"),
        (lambda D, b, s: (D, b, s[..., :4].contiguous()), "s has shape"),
    ],
)
def test_bad_tensors(change, sentence):
    D, b, s = change(torch.zeros(2, 3, 8, 9), torch.zeros(2, 3, 8, 9), torch.ones(1, 1, 8, 9))
    known = table(lf.local_map.Weights(0.5, 1.0, 0.1, 5), D.device)
    with pytest.raises(lf.InputError, match=sentence):
        torch.ops.lmaps_fast.diagonal_map(D, b, s, known.values, known.most)


def test_backends_that_cannot_run_are_refused_with_the_reason(monkeypatch):
    D, mask = torch.zeros(1, 3, 16, 16), torch.ones(1, 1, 16, 16)
    weights = lf.local_map.Weights(0.5, 1.0, 0.1, 5)
    with pytest.raises(lf.InputError, match="the cuda kernels run on cuda tensors, not on cpu"):
        lf.ops.diagonal_map(D, D, mask, weights, backend="cuda")
    with pytest.raises(lf.InputError, match="unknown backend 'gpu'"):
        lf.ops.diagonal_map(D, D, mask, weights, backend="gpu")
    monkeypatch.setattr(backends, "_triton_reason", lambda: "triton is not installed")
    with pytest.raises(lf.InputError, match="backend 'triton' cannot run here: triton"):
        lf.ops.diagonal_map(D, D, mask, weights, backend="triton")


def test_environment_and_context_choose_the_backend(monkeypatch):
    monkeypatch.setenv("LMAPS_FAST_BACKEND", "torch")
    assert backends.requested() == "torch"
    with lf.use_backend("cpu"):
        assert backends.requested() == "cpu"
        assert backends.requested("reference") == "reference"
    monkeypatch.setenv("LMAPS_FAST_BACKEND", "")
    assert backends.requested() is None
