"""A whole restoration over its bare network calls, interleaved. `pytest bench/test_end_to_end.py -s`"""

import statistics
import time

import baselines
import cases
import pytest
import torch

import lmaps_fast as lf

ROUNDS = 5


@pytest.mark.parametrize("task", cases.END_TO_END_TASKS)
def test_restoration_over_network_calls(task):
    operator, _, y, _ = baselines.problem(task, cases.SHAPE, cases.SIGMA)
    restorer = lf.Restorer(operator, steps=cases.NETWORK_CALLS)
    x, sigmas = torch.randn(1, *cases.SHAPE), restorer.solver.sigmas(restorer.settings[0])[:-1]

    def network_calls():
        for sigma in sigmas:
            restorer.denoiser(x, sigma)

    def seconds(run):
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    restorer(y)
    pairs = [(seconds(lambda: restorer(y)), seconds(network_calls)) for _ in range(ROUNDS)]
    ratio = statistics.median(whole / bare for whole, bare in pairs)
    whole, bare = (statistics.median(times) for times in zip(*pairs, strict=True))
    print(f"\n{task}: {whole:.2f} s, network calls {bare:.2f} s, median ratio {ratio:.3f}")
    assert ratio <= cases.END_TO_END
