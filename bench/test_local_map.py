"""One local MAP: collapsed, against the loop eager, compiled and as published. `pytest bench/test_local_map.py`"""

import baselines
import cases
import pytest
import torch

from lmaps_fast.local_map import Problem, gradient_descent


@pytest.mark.parametrize("name", ["collapsed", "eager", "compile", "as published"])
@pytest.mark.parametrize("task", cases.TASKS)
def test_local_map(task, name, benchmark):
    if name == "as published" and task != "gaussian_deblurring":
        pytest.skip("published as a dense convolution for blur only")
    operator, D, y, weights = baselines.problem(task, cases.SHAPE, cases.SIGMA)
    assert weights.steps == cases.INNER_STEPS
    collapsed = Problem(operator, y)
    if name == "collapsed":
        run, rounds = lambda: collapsed(D, weights), 100
    elif name == "eager":
        run, rounds = lambda: gradient_descent(operator, D, y, weights), 10
    elif name == "compile":
        loop = baselines.compiled_loop()
        run, rounds = lambda: loop(operator, D, y, weights), 10
    else:
        run, rounds = lambda: baselines.published_gaussian_deblurring(D, y, weights), 3
    # No speed-up of something that is not the same: all of them are compared before they are timed.
    error = (run() - collapsed(D, weights)).norm() / D.norm()
    assert error < (1e-2 if task == "jpeg_restoration" else 1e-5)  # JPEG in float32: rare flips of a quantizer index
    benchmark.group, benchmark.name = task, name
    with torch.no_grad() if name != "as published" else torch.enable_grad():
        benchmark.pedantic(run, rounds=rounds, warmup_rounds=2)
