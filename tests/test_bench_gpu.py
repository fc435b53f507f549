"""What bench/gpu.py and bench/sanitize.py call, on a CPU in place of the GPU and at tiny sizes."""

import sys
import time

import gpu
import pytest
import sanitize
import torch

import lmaps_fast as lf
from lmaps_fast.ops import backends

TASKS = ("inpainting_random", "gaussian_deblurring", "jpeg_restoration")


@pytest.fixture
def on_cpu(monkeypatch):
    if isinstance(backends.native(), str):
        pytest.skip("the kernels of the CPU stand for those of the GPU, and are not built")

    def seconds(run, repeats=1):
        start = time.perf_counter()
        for _ in range(repeats):
            run()
        return (time.perf_counter() - start) / repeats

    changes = {"DEVICE": "cpu", "SHAPE": (3, 32, 32), "BATCHES": (1, 2), "STEPS": (2, 3), "ROUNDS": 2, "COMPILED": ()}
    for name, value in changes.items():
        monkeypatch.setattr(gpu, name, value)
    monkeypatch.setattr(gpu, "seconds", seconds)
    monkeypatch.setattr(gpu, "of_graph", seconds)
    monkeypatch.setattr(lf.graphs, "Captured", lambda function: function)


def test_kernels(on_cpu):
    found = gpu.kernels((2, 3, 32, 32))
    names = [row["kernel"] for row in found["kernels"]]
    assert names == ["add_normal", *(f"{task} {part}" for task in gpu.TASKS for part in ("map", "step"))]
    assert all(row["us"] > 0 and row["bytes"] > 0 for row in found["kernels"])


def test_local_maps(on_cpu):
    found = gpu.local_maps()
    assert {"task", "collapsed", "eager"} <= found[0].keys()
    assert "as published" in next(row for row in found if row["task"] == "gaussian_deblurring")


def test_a_restoration_is_put_beside_its_own_network_calls(on_cpu, monkeypatch):
    calls = []
    denoiser = lf.denoisers.load("natural")
    evaluate = denoiser.denoise.evaluate

    def counting(scaled, condition):
        calls.append((scaled, condition.clone()))
        return evaluate(scaled, condition)

    monkeypatch.setattr(denoiser.denoise, "evaluate", counting)
    monkeypatch.setattr(gpu, "ROUNDS", 1)
    found = gpu.end_to_end(denoiser, "natural", TASKS[:1])
    assert [(row["batch"], row["steps"]) for row in found] == [(1, 2), (1, 3), (2, 2)]
    assert all(row["captured"] == "no" and row["ratio"] > 0 for row in found)
    restored, bare = calls[:2], calls[2:4]  # each is warmed up once, in this order
    for one, other in zip(restored, bare, strict=True):
        assert torch.equal(one[1], other[1])
        assert (one[0].shape, one[0].dtype, one[0].stride()) == (other[0].shape, other[0].dtype, other[0].stride())


def test_the_network_of_ffhq_is_one_that_is_recorded(on_cpu, small_adm):
    denoiser = gpu.ffhq_network()
    assert denoiser.recordable
    assert denoiser.dtype == torch.bfloat16
    assert denoiser(torch.zeros(1, 3, 32, 32), 1.0).isfinite().all()


def test_each_kernel_runs(on_cpu):
    sanitize.run("cpu")


def test_without_a_gpu_it_says_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--tests-passed", "yes"])
    with pytest.raises(SystemExit, match="needs an NVIDIA GPU"):
        gpu.main()
