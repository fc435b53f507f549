"""One local MAP: collapsed, against the loop eager, compiled and as published. `pytest bench/test_local_map.py`"""

import dataclasses

import baselines
import cases
import pytest
import torch

from lmaps_fast.local_map import Problem, gradient_descent
from lmaps_fast.race.published import as_published

QUANTIZED = ("jpeg_restoration", "quantization")


@pytest.mark.parametrize("name", ["collapsed", "eager", "compile", "as published"])
@pytest.mark.parametrize("case", cases.LOCAL_MAP)
def test_local_map(case, name, benchmark):
    task, arguments, goals = cases.LOCAL_MAP[case]
    if name != "collapsed" and name not in goals:
        pytest.skip("no goal for this case")
    operator, D, y, weights = baselines.problem(task, cases.SHAPE, cases.SIGMA, **arguments)
    weights = dataclasses.replace(weights, steps=cases.INNER_STEPS)
    collapsed = Problem(operator, y)
    if name == "collapsed":
        run, rounds = lambda: collapsed(D, weights), 100
    elif name == "eager":
        run, rounds = lambda: gradient_descent(operator, D, y, weights), 10
    elif name == "compile":
        loop = baselines.compiled_loop()
        run, rounds = lambda: loop(operator, D, y, weights), 10
    else:
        twin = as_published(operator)
        run, rounds = lambda: gradient_descent(twin, D, y, weights), 3
    # No speed-up of something that is not the same: all of them are compared before they are timed. In float32 a
    # quantizer's index may flip; motion deblurring has a tolerance.
    error = (run() - collapsed(D, weights)).norm() / D.norm()
    assert error < (1e-2 if task in QUANTIZED else 1e-3 if task == "motion_deblurring" else 1e-5)
    benchmark.group, benchmark.name = case, name
    with torch.no_grad():
        benchmark.pedantic(run, rounds=rounds, warmup_rounds=2)
