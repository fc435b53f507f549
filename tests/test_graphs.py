"""CUDA graphs: what is recorded, kept and refused. The recording itself is that of torch; here it is played back by
calling the function again into the same output, as a graph does."""

import pytest
import torch

import lmaps_fast as lf
from lmaps_fast.engine import graphs
from lmaps_fast.engine.graphs import Captured


@pytest.fixture
def recordings(monkeypatch):
    """The shapes that were recorded."""
    shapes = []

    def record(function, inputs):
        shapes.append(tuple(inputs[0].shape))
        output = function(*inputs)
        return (lambda: output.copy_(function(*inputs))), output

    monkeypatch.setattr(graphs, "record", record)
    return shapes


def test_replays_on_new_inputs_and_returns_copies(recordings):
    captured = Captured(lambda x, k: x * k)
    k = torch.tensor(3.0)
    first, second = captured(torch.ones(2), k), captured(torch.full((2,), 5.0), k)
    assert (first.tolist(), second.tolist(), recordings) == ([3.0, 3.0], [15.0, 15.0], [(2,)])


def test_a_new_shape_is_recorded_and_the_oldest_forgotten(recordings):
    captured = Captured(lambda x: x + 1, limit=2)
    for n in (1, 2, 1, 3, 1, 2):
        assert torch.equal(captured(torch.zeros(n)), torch.ones(n))
    assert recordings == [(1,), (2,), (3,), (2,)]
    with pytest.raises(lf.InputError, match="limit must be at least 1"):
        Captured(torch.neg, limit=0)


def test_what_cannot_be_recorded_runs_as_it_is(monkeypatch):
    def refuse(function, inputs):
        raise RuntimeError("operation not permitted when stream is capturing\nCompile with TORCH_USE_CUDA_DSA")

    monkeypatch.setattr(graphs, "record", refuse)
    captured = Captured(torch.neg)
    with pytest.warns(UserWarning, match="since it cannot be recorded as a CUDA graph: operation"):
        assert captured(torch.ones(2)).tolist() == [-1, -1]
    assert captured(torch.ones(3)).tolist() == [-1, -1, -1]
    assert captured.reason == "it cannot be recorded as a CUDA graph: operation not permitted when stream is capturing"


def test_inside_a_capture_of_the_callers(recordings, monkeypatch):
    captured = Captured(torch.neg)
    captured(torch.ones(2))
    monkeypatch.setattr(graphs, "recording", lambda: True)
    assert captured(torch.ones(2)).tolist() == [-1, -1]
    with pytest.raises(lf.InputError, match=r"shape \[3\] is new: call this once with that shape before the capture"):
        captured(torch.ones(3))


def test_graphs_are_refused_on_a_cpu():
    operator = lf.operators.create("denoising", (3, 16, 16))
    with pytest.raises(lf.InputError, match="CUDA graphs need an operator on a GPU, not on cpu"):
        lf.Restorer(operator, lambda x, sigma: x, graphs=True)


@pytest.mark.parametrize("task", ["inpainting_random", "gaussian_deblurring", "phase_retrieval"])
def test_a_recorded_restoration_equals_the_other(task, recordings):
    """Noise comes from keys that are an input of the graph, so other seeds need no other graph."""
    operator = lf.operators.create(task, (3, 32, 32))
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    restorer = lf.Restorer(operator, steps=3)
    recorded = lf.Restorer(operator, steps=3)
    recorded.graphs = Captured(recorded._trajectory)
    for seed in (0, 1):
        y = operator.measure(x, seed=seed)
        assert torch.equal(recorded(y, seed=seed, images=(4, 7)), restorer(y, seed=seed, images=(4, 7)))
    assert len(recordings) == 1
