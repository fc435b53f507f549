"""Operators as data: stacked, selected, moved, copied, pickled; and batches whose images differ in all that may."""

import copy
import pickle

import pytest
import torch
import torch.utils._pytree as pytree
from conftest import TASKS, photo_like, random_weights

import lmaps_fast as lf
from lmaps_fast.operators import structures

SHAPE = (3, 40, 56)
# Options in which the operators of a task may differ within one batch.
OPTIONS = {
    "super_resolution": [{}, {}, {}],
    "inpainting_box": [{"seed": 0}, {"seed": 1}, {"box": (3, 4, 10, 20)}],
    "inpainting_random": [{"seed": 0}, {"seed": 5, "missing": 0.3}, {"mask": torch.ones(40, 56).tril()}],
    "gaussian_deblurring": [{"sigma": 3.0}, {"sigma": 1.0}, {"sigma": 0.4}],
    "motion_deblurring": [{"seed": 0}, {"seed": 3}, {"seed": 4, "intensity": 0.9}],
    "phase_retrieval": [{}, {}, {}],
    "nonlinear_deblurring": [{}, {}, {}],
    "high_dynamic_range": [{"gain": 2.0}, {"gain": 3.0, "surrogate": "autograd"}, {"gain": 1.5}],
    "jpeg_restoration": [{"quality": 5}, {"quality": 30}, {"tables": torch.full((2, 8, 8), 17.0)}],
    "quantization": [{"bits": 2}, {"bits": 3}, {"bits": 5}],
    "denoising": [{}, {}, {}],
}


def several(task, dtype=torch.float32):
    """Three operators of one kind; those that hold a network share it."""
    if task == "nonlinear_deblurring":
        return [lf.operators.create(task, SHAPE, dtype=dtype)] * 3
    return [lf.operators.create(task, SHAPE, dtype=dtype, **options) for options in OPTIONS[task]]


def weights_of(task, generator, steps=(7, 12, 3)):
    return [random_weights(task, generator, 2 if task == "nonlinear_deblurring" else K) for K in steps]


@pytest.mark.parametrize("task", TASKS)
def test_a_stack_equals_its_operators_bit_for_bit(task, generator):
    operators, x = several(task), photo_like(3, SHAPE, torch.float32)
    D, stacked = 0.8 * x + 0.05, lf.operators.stack(operators)
    assert stacked.batch == (3 if stacked.numbers else 1)
    y = stacked.measure(x, noise=[0.0, 0.05, 0.2], seed=2)
    weights = [
        w if task != "high_dynamic_range" else lf.local_map.Weights(w.lam, w.k2, w.lr / 2, w.steps)
        for w in weights_of(task, generator)
    ]
    result, loop = lf.local_map.solve(stacked, D, y, weights), lf.local_map.gradient_descent(stacked, D, y, weights)
    for n, operator in enumerate(operators):
        one = slice(n, n + 1)
        torch.testing.assert_close(stacked(x)[one], operator(x[one]), rtol=1e-5, atol=1e-6)
        assert torch.equal(result[one], lf.local_map.solve(operator, D[one], y[one], weights[n]))
        alone = lf.local_map.gradient_descent(operator, D[one], y[one], weights[n])
        torch.testing.assert_close(loop[one], alone, rtol=1e-4, atol=1e-4)
        if "linear" in operator.can:
            torch.testing.assert_close(stacked.adjoint(y)[one], operator.adjoint(y[one]), rtol=1e-5, atol=1e-5)
    assert not torch.equal(result[0], result[1])


@pytest.mark.parametrize("task", [t for t in TASKS if t not in ("nonlinear_deblurring",)])
def test_the_collapsed_form_of_a_stack_equals_its_loop(task, generator):
    stacked = lf.operators.stack(several(task, torch.float64))
    x = photo_like(3, SHAPE, torch.float64)
    y, D, weights = stacked.measure(x), 0.8 * x + 0.05, weights_of(task, generator)
    loop = lf.local_map.gradient_descent(stacked, D, y, weights)
    for backend in ("cpu", "torch"):
        result = lf.local_map.solve(stacked, D, y, weights, backend)
        tolerance = 1e-3 if isinstance(stacked, structures.Krylov) else 1e-6
        assert (result - loop).norm() <= tolerance * (loop - D).norm(), backend


@pytest.mark.parametrize("task", TASKS)
def test_operators_are_data(task):
    operators = several(task)
    stacked, x = lf.operators.stack(operators), photo_like(3, SHAPE, torch.float32)
    leaves, structure = pytree.tree_flatten(stacked)
    assert len(leaves) == len(stacked.numbers)
    assert all(len(leaf) in (1, 3) for leaf in leaves)
    hash(stacked.kind)
    copies = [
        pytree.tree_unflatten(leaves, structure),
        pytree.tree_map(torch.clone, stacked),
        copy.deepcopy(stacked),
        pickle.loads(pickle.dumps(stacked)),
        stacked.to("cpu"),
        stacked.float(),
        stacked.with_numbers(stacked.numbers),
        lf.operators.stack([stacked.image(n) for n in range(3)]),
    ]
    for other in copies:
        assert torch.equal(other(x), stacked(x))
        assert other.name == stacked.name
    assert copies[0].kind == copies[1].kind == copies[4].kind == operators[1].kind == stacked.kind
    narrow = several(task, torch.float64)[0].to(dtype=torch.float32)
    torch.testing.assert_close(narrow(x[:1]), operators[0](x[:1]), rtol=1e-5, atol=1e-5)
    with pytest.raises(lf.InputError, match=r"are not exact in torch.float64: create the operator with it"):
        stacked.double()


def test_what_cannot_be_stacked_is_said():
    create = lf.operators.create
    blur = create("gaussian_deblurring", SHAPE)
    for other, sentence in (
        (create("denoising", SHAPE), "one is a GaussianDeblurring, another a Denoising"),
        (create("gaussian_deblurring", (3, 40, 40)), r"measurement_shape is \(3, 40, 56\) in one and \(3, 40, 40\)"),
        (create("gaussian_deblurring", SHAPE, dtype=torch.float64), "dtype is torch.float32 in one and torch.float64"),
    ):
        with pytest.raises(lf.InputError, match=sentence):
            lf.operators.stack([blur, other])
    with pytest.raises(lf.InputError, match="there are no operators to stack"):
        lf.operators.stack([])
    masks = [lf.operators.structures.Diagonal(SHAPE, torch.ones(*size)) for size in ((1, 40, 56), (3, 40, 56))]
    with pytest.raises(lf.InputError, match=r"mask is \[1, 40, 56\] and \[3, 40, 56\]"):
        lf.operators.stack(masks)


def test_numbers_of_another_batch_size_are_refused():
    stacked = lf.operators.stack(several("inpainting_random"))
    x, w = torch.zeros(2, *SHAPE), lf.local_map.Weights(0.5, 1.0, 0.1, 3)
    for call in (stacked, stacked.measure, lambda x: lf.local_map.solve(stacked, x, x, w)):
        with pytest.raises(lf.InputError, match="a batch of 2 but inpainting_random holds numbers for 3 images"):
            call(x)
    one = lf.operators.create("denoising", SHAPE)
    with pytest.raises(lf.InputError, match="there are 3 weights for 2 images"):
        lf.local_map.solve(one, x, x, [w] * 3)
    with pytest.raises(lf.InputError, match="there are no weights"):
        lf.local_map.solve(one, x, x, [])
    with pytest.raises(lf.InputError, match="D is a batch of 2 but y of 1"):
        lf.local_map.solve(one, x, x[:1], w)
    with pytest.raises(lf.InputError, match="this restorer is for another kind of operator: one is"):
        lf.Restorer(one, lambda x, sigma: x, preset="paper")(x, operator=stacked)


class CountingDenoiser:
    """The mean of standard normal images, image by image; it takes a level for each."""

    batched_sigma = True

    def __init__(self):
        self.sizes = []

    def __call__(self, x, sigma):
        self.sizes.append(len(x))
        return x / (1 + sigma.to(x.dtype).view(-1, 1, 1, 1) ** 2)


@pytest.mark.parametrize("task", [task for task in TASKS if task != "nonlinear_deblurring"])
def test_a_batch_of_different_images_equals_them_alone(task):
    """Different masks, kernels, tables and gains, noise levels, numbers of steps and seeds: one call per step."""
    operators = [*several(task), several(task)[0]]
    noises = None if operators[0].noise == 0 else [0.05, 0.02, 0.1, 0.2]
    steps, seeds = [4, 2, 6, 4], [7, 8, 7, 9]
    x = photo_like(4, SHAPE, torch.float32)
    stacked = lf.operators.stack(operators)
    y = stacked.measure(x, noise=0.0 if noises is None else noises)
    options = {"preset": "natural", "runs": 1, "lr": 0.001}
    denoiser = CountingDenoiser()
    whole = lf.restore(y, stacked, denoiser, steps=steps, noise=noises, seed=seeds, **options)
    assert denoiser.sizes == [4, 4, 3, 3, 1, 1]
    for n, operator in enumerate(operators):
        noise = None if noises is None else noises[n]
        alone = lf.restore(
            y[n : n + 1], operator, CountingDenoiser(), steps=steps[n], noise=noise, seed=[seeds[n]], **options
        )
        assert torch.equal(whole[n : n + 1], alone), n


@pytest.mark.parametrize("task", ["inpainting_random", "high_dynamic_range", "jpeg_restoration", "gaussian_deblurring"])
def test_so_does_the_fused_step(task):
    """The same through `ops.step`, with a network that treats each image alone."""

    class Network(torch.nn.Module):
        def forward(self, x, condition):
            return torch.tanh(x) + condition.view(-1, 1, 1, 1).to(x.dtype)

    denoiser = lf.denoisers.EDM(Network())
    operators, x = several(task), photo_like(3, SHAPE, torch.float32)
    stacked = lf.operators.stack(operators)
    y = stacked.measure(x)
    options = {"preset": "natural", "lr": 0.001}
    whole = lf.restore(y, stacked, denoiser, steps=[3, 5, 2], seed=[1, 2, 3], **options)
    for n, operator in enumerate(operators):
        one = lf.restore(y[n : n + 1], operator, denoiser, steps=[3, 5, 2][n], seed=[n + 1], **options)
        assert torch.equal(whole[n : n + 1], one)


def test_another_operator_of_the_same_kind_needs_no_new_restorer():
    first, second, third = several("motion_deblurring")
    x = photo_like(1, SHAPE, torch.float32)
    restorer = lf.Restorer(first, steps=2)
    for operator in (second, third, first):
        y = operator.measure(x)
        assert torch.equal(restorer(y, seed=3, operator=operator), lf.restore(y, operator, steps=2, seed=3))


class Measurements(torch.utils.data.Dataset):
    def __init__(self, operator, images):
        self.operator, self.images = operator, images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.operator.measure(self.images[index : index + 1], seed=index)[0]


def test_workers_of_a_data_loader_measure_what_this_process_does():
    operator, x = lf.operators.create("super_resolution", SHAPE), photo_like(4, SHAPE, torch.float32)
    data = Measurements(operator, x)
    loader = torch.utils.data.DataLoader(data, batch_size=2, num_workers=2, multiprocessing_context="spawn")
    here = torch.stack([data[n] for n in range(4)])
    torch.testing.assert_close(torch.cat(list(loader)), here, rtol=1e-6, atol=1e-6)
