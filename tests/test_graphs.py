"""CUDA graphs: what is recorded, kept, owned and refused. The recording itself is that of torch; here it is played back
by calling the function again, which reads and writes the same tensors as a graph does."""

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from conftest import TASKS, photo_like

import lmaps_fast as lf
from lmaps_fast import noise, operators
from lmaps_fast.denoisers import EDM
from lmaps_fast.engine import graphs
from lmaps_fast.engine.graphs import Captured, StepGraph, StepGraphs
from lmaps_fast.engine.schedule import Schedule
from lmaps_fast.local_map import Problem
from lmaps_fast.solvers import REGISTRY

SHAPE = (3, 16, 24)
RECORDABLE = [
    (name, task)
    for name, solver in REGISTRY.items()
    for task in TASKS
    if solver.recordable
    and operators.create(task, SHAPE).recordable
    and (not solver.needs or operators.REGISTRY[task].can & set(solver.needs))
]


class Elementwise:
    """Each entry from itself and its image's level, so that an image in a batch is what it is alone."""

    batched_sigma = recordable = True

    def __call__(self, x, sigma):
        return x / (1 + torch.as_tensor(sigma).to(x.dtype).view(-1, *[1] * (x.dim() - 1)) ** 2)


class Network(torch.nn.Module):
    def forward(self, x, condition):
        return x * (1 + condition).view(-1, 1, 1, 1).to(x.dtype)


DENOISERS = {
    "callable": Elementwise,
    "network": lambda: EDM(Network(), recordable=True),
    "network in bfloat16": lambda: EDM(Network(), dtype=torch.bfloat16, recordable=True),
}


@pytest.fixture
def recordings(monkeypatch):
    """The functions that were recorded."""
    functions = []

    def record(function, device):
        functions.append(function)
        function()
        return function

    monkeypatch.setattr(graphs, "record", record)
    return functions


def recorded(*arguments, **options):
    """A restorer with graphs, whatever the device."""
    restorer = lf.Restorer(*arguments, **options)
    restorer.graphs = StepGraphs(restorer.solver)
    return restorer


def measured(operator, batch=2, seed=0):
    return operator.measure(photo_like(batch, operator.shape, operator.dtype, seed))


def test_captured_replays_on_new_inputs_and_returns_copies(recordings):
    captured = Captured(lambda x, k: x * k)
    k = torch.tensor(3.0)
    first, second = captured(torch.ones(2), k), captured(torch.full((2,), 5.0), k)
    assert (first.tolist(), second.tolist(), len(recordings)) == ([3.0, 3.0], [15.0, 15.0], 1)


def test_captured_records_a_new_shape_and_forgets_the_oldest(recordings):
    captured = Captured(lambda x: x + 1, limit=2)
    for n in (1, 2, 1, 3, 1, 2):
        assert torch.equal(captured(torch.zeros(n)), torch.ones(n))
    assert len(recordings) == 4  # 1, 2, 3 and 2 again
    captured(torch.zeros(2, dtype=torch.float64))
    captured(torch.zeros(1, 2, 1).expand(1, 2, 3)[..., 0])
    assert len(recordings) == 6
    with pytest.raises(lf.InputError, match="limit must be at least 1"):
        Captured(torch.neg, limit=0)


def test_captured_inside_a_capture_of_the_callers(recordings, monkeypatch):
    captured = Captured(torch.neg)
    captured(torch.ones(2))
    monkeypatch.setattr(graphs, "recording", lambda: True)
    assert captured(torch.ones(2)).tolist() == [-1, -1]
    with pytest.raises(lf.InputError, match=r"shape \[3\] is new: call this once with that shape before the capture"):
        captured(torch.ones(3))


def test_captured_owns_its_inputs_and_serves_threads(recordings):
    given = torch.ones(2)
    reference = weakref.ref(given)
    captured = Captured(lambda x: 2 * x)
    captured(given)
    del given
    gc.collect()
    assert reference() is None
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda n: captured(torch.full((1000,), float(n))), range(64)))
    assert all((result == 2 * n).all() for n, result in enumerate(results))
    assert len(recordings) == 2


class Fails:
    """A function that runs out of memory at its first calls."""

    def __init__(self, function, times=1):
        self.function, self.times = function, times

    def __call__(self, *arguments):
        self.times -= 1
        if self.times >= 0:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return self.function(*arguments)


def test_what_fails_while_it_is_recorded_is_said_and_can_be_tried_again(recordings):
    captured = Captured(Fails(torch.neg))
    with pytest.raises(torch.cuda.OutOfMemoryError):
        captured(torch.ones(2))
    assert captured(torch.ones(2)).tolist() == [-1, -1]
    operator = operators.create("denoising", SHAPE)
    restorer, y = recorded(operator, Elementwise(), steps=3), measured(operator)
    expected = lf.restore(y, operator, Elementwise(), steps=3)
    restorer.solver.step = Fails(restorer.solver.step)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        restorer(y)
    assert torch.equal(restorer(y), expected)
    restorer.solver.step.times = 1  # now in a replay
    with pytest.raises(torch.cuda.OutOfMemoryError):
        restorer(y)
    assert torch.equal(restorer(y), expected)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("kind", DENOISERS)
@pytest.mark.parametrize(("name", "task"), RECORDABLE)
def test_a_recorded_restoration_equals_the_other(name, task, kind, recordings):
    """For two seeds and operators, of which the first records a step and the last step."""
    operator, denoiser = operators.create(task, SHAPE), DENOISERS[kind]()
    plain, restorer = (make(operator, denoiser, name, steps=4, runs=1) for make in (lf.Restorer, recorded))
    parameters = {"inpainting_random": {"seed": 1}, "jpeg_restoration": {"quality": 40}}.get(task, {})
    for seed, other in enumerate((operator, operators.create(task, SHAPE, **parameters))):
        y = measured(other, seed=seed)
        expected = plain(y, seed=seed, images=(4, 7), operator=other)
        assert torch.equal(restorer(y, seed=seed, images=(4, 7), operator=other), expected)
    assert len(recordings) == 2


@pytest.mark.parametrize("kind", DENOISERS)
@pytest.mark.parametrize("channels", [1, 3])
def test_one_graph_for_each_batch_size_and_one_for_its_last_step(channels, kind, recordings):
    """Images leave the batch after 3, 6 and 4 steps: 3, 2 and 1 of them, of which the last has a last step."""
    operator = operators.create("gaussian_deblurring", (channels, 16, 20))
    presets = [
        lf.Preset(3, 20, 0.02, 0.3, 4, 5.0, 0.1),
        lf.Preset(6, 40, 0.01, 0.1, 8, 20.0, 0.05, rho=0.7),
        lf.Preset(4, 7, 0.02, 0.3, 2, 0.5, 0.02, start="measurement"),
    ]
    plain, restorer = (make(operator, DENOISERS[kind](), preset=presets) for make in (lf.Restorer, recorded))
    for seed in range(3):
        y = measured(operator, 3, seed)
        assert torch.equal(restorer(y, seed=seed), plain(y, seed=seed))
    assert len(recordings) == 4


def test_graphs_of_other_settings_and_batches(recordings):
    operator = operators.create("denoising", SHAPE)
    restorer, plain = recorded(operator, Elementwise(), steps=3), lf.Restorer(operator, Elementwise(), steps=3)
    for batch, total in ((1, 2), (2, 4), (1, 4), (2, 4), (3, 6)):
        y = measured(operator, batch)
        assert torch.equal(restorer(y), plain(y))
        assert len(recordings) == total
    with torch.autocast("cpu", torch.bfloat16):  # which a graph has recorded into it
        restorer(measured(operator, 1))
    assert len(recordings) == 8
    restorer.graphs.limit = 1
    assert torch.equal(restorer(y), plain(y))


def test_callbacks_see_copies_and_may_restore_themselves(recordings):
    operator = operators.create("denoising", SHAPE)
    y, others, seen, expected = measured(operator), [], [], []
    plain, restorer = (make(operator, Elementwise(), steps=4) for make in (lf.Restorer, recorded))

    def callback(step):
        seen.append(step)
        others.append(restorer(y, seed=9))  # in the midst of the other

    plain(y, seed=1, callback=expected.append)
    result = restorer(y, seed=1, callback=callback)
    assert all(torch.equal(a.x0, b.x0) and torch.equal(a.x, b.x) for a, b in zip(seen, expected, strict=True))
    assert torch.equal(result, seen[-1].x0)
    assert all(torch.equal(other, plain(y, seed=9)) for other in others)
    assert torch.equal(restorer(y, seed=1), result)


@pytest.mark.parametrize("kind", DENOISERS)
@pytest.mark.parametrize(("name", "task"), RECORDABLE)
def test_a_graph_owns_all_that_it_reads(name, task, kind, recordings):
    """All that it was made from and entered with is overwritten before it is replayed."""
    operator, denoiser = operators.create(task, SHAPE), DENOISERS[kind]()
    solver, y = REGISTRY[name](operator, denoiser), measured(operator)
    like, keys = torch.zeros(2, *SHAPE), noise.keys(noise.SAMPLER, 0, range(2))
    level = Schedule(solver, operator, [solver.published(task)]).level(0, keys, like)
    problem = Problem(operator, y)
    with torch.no_grad():
        state = solver.start(problem, level)
        given = [*problem.tensors(), *state, *level.tensors()]
        copies = type(state)(*(tensor.clone() for tensor in state))
        expected = [tensor.clone() for tensor in solver.step(problem, copies, level)]
        graph = StepGraph(solver, problem, state, level)
        graph.enter(problem, state)
        own = {tensor.untyped_storage().data_ptr() for tensor in (*graph.problem.tensors(), *graph.state)}
        assert not own & {tensor.untyped_storage().data_ptr() for tensor in given if tensor.numel()}
        for tensor in given:
            tensor.fill_(float("nan") if tensor.is_floating_point() or tensor.is_complex() else 1)
        graph.replay()
    assert all(torch.equal(mine, made) for mine, made in zip(graph.state, expected, strict=True))


@pytest.mark.parametrize("threads", [2, 4])
@pytest.mark.parametrize("name", REGISTRY)
def test_threads_that_share_a_restorer_get_what_each_would_alone(name, threads, recordings):
    few = {"daps": {"inner_steps": 2, "lr": 1e-5}, "sitcom": {"inner_steps": 2}}.get(name, {})
    operator = operators.create("super_resolution", SHAPE)
    for make in (lf.Restorer, recorded) if REGISTRY[name].recordable else (lf.Restorer,):
        restorer = make(operator, Elementwise(), name, steps=3, **few)
        jobs = [(measured(operator, 1 + seed % 3, seed), seed) for seed in range(8)]
        expected = [restorer(y, seed=seed) for y, seed in jobs]
        with ThreadPoolExecutor(threads) as pool:
            results = list(pool.map(lambda job, restorer=restorer: restorer(job[0], seed=job[1]), jobs))
        assert all(torch.equal(result, alone) for result, alone in zip(results, expected, strict=True))


def test_graphs_are_refused_where_a_part_cannot_be_recorded():
    denoising = operators.create("denoising", SHAPE)
    with pytest.raises(lf.InputError, match="CUDA graphs need an operator on a GPU, not on cpu"):
        lf.Restorer(denoising, Elementwise(), graphs=True)

    class OneLevel(Elementwise):
        batched_sigma = False  # so that its level would be recorded into the graph

    for task, denoiser, name, parts in (
        ("denoising", lambda x, sigma: x, "lmaps", "the denoiser cannot be recorded"),
        ("denoising", OneLevel(), "lmaps", "the denoiser cannot be recorded"),
        ("motion_deblurring", Elementwise(), "lmaps", "motion_deblurring cannot be recorded"),
        (
            "nonlinear_deblurring",
            lambda x, sigma: x,
            "dps",
            "dps and nonlinear_deblurring and the denoiser cannot",
        ),
        ("denoising", Elementwise(), "sitcom", "the solver sitcom cannot be recorded"),
    ):
        restorer = lf.Restorer(operators.create(task, SHAPE), denoiser, name)
        restorer.operator.device = torch.device("cuda", 0)  # as if it were there
        assert not restorer._records(None)
        assert not restorer._records(False)
        with pytest.raises(lf.InputError, match=parts):
            restorer._records(True)
    restorer = lf.Restorer(denoising, Elementwise())
    restorer.operator.device = torch.device("cuda", 0)
    assert restorer._records(None)
    assert restorer._records(True)
    assert not restorer._records(False)
