"""Every operation of ops.REGISTRY: its schema, its kernels beside its PyTorch form, rows of images, its door."""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from op_samples import CODECS, INTERVALS, KEYS, MOST, ROWS, SAMPLES, TABLES, WEIGHTS, B, differing, image, levels, run

import lmaps_fast as lf
from lmaps_fast import ops
from lmaps_fast.levels import COLUMNS
from lmaps_fast.ops import backends
from lmaps_fast.ops.jpeg_codec import MATRICES, JpegCodec

# The interpreter makes a number of an array where a loop ends.
pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning")
triton = pytest.param("triton", marks=pytest.mark.skipif(bool(backends._triton_reason()), reason="triton cannot run"))


def test_every_operation_has_samples():
    assert {name for name, _ in SAMPLES.values()} == set(ops.REGISTRY)


@pytest.mark.parametrize("key", [key for key in SAMPLES if "2d-3" in key or "24, 40" in key])
def test_opcheck(key):
    """Its schema, what it says of shapes, its gradients and torch.compile: those of rows of images with gradients."""
    name, arguments = SAMPLES[key]
    operation = ops.REGISTRY[name]
    if operation.gradient and arguments[0].dtype in (torch.float64, torch.complex128):
        wanted = [t.clone().requires_grad_(t.dtype != torch.int64) for t in arguments[:2]]
        arguments = (*wanted, *arguments[2:])
    torch.library.opcheck(operation.operator, arguments)


ONE_ROW = re.compile("-1(-torch|$)")
ON_KERNELS = [(key, backend) for key in SAMPLES for backend in ("cpu", "emulated")]
# The interpreter is slow: rows of images alone, and one row for all in test_triton.py.
ON_KERNELS += [pytest.param(key, *triton.values, marks=triton.marks) for key in SAMPLES if not ONE_ROW.search(key)]


@pytest.mark.parametrize(("key", "backend"), ON_KERNELS)
def test_kernels_equal_the_form(key, backend, monkeypatch):
    expected = run(SAMPLES[key], "form")
    empty = torch.empty_like
    monkeypatch.setattr(torch, "empty_like", lambda t: empty(t).fill_(float("nan")))  # what is not written shows
    for got, wanted in zip(run(SAMPLES[key], backend, monkeypatch), expected, strict=True):
        assert wanted.isfinite().all()
        assert not differing(SAMPLES[key], got, wanted)


@pytest.mark.parametrize("backend", ["cpu", "emulated"])
@pytest.mark.parametrize("key", SAMPLES)
def test_an_image_in_a_batch_is_what_it_is_alone(key, backend, monkeypatch):
    name, arguments = SAMPLES[key]
    together = run((name, arguments), backend, monkeypatch)
    for n in range(B):
        alone = run((name, image(arguments, n)), backend, monkeypatch)
        assert all(torch.equal(one, all_[n : n + 1]) for one, all_ in zip(alone, together, strict=True))


@pytest.mark.parametrize("backend", ["cpu", triton])
@pytest.mark.parametrize("key", [key for key in SAMPLES if "2d" in key or "jpeg_map-" in key])
def test_empty_batches_and_images(key, backend):
    name, arguments = SAMPLES[key]
    sides = arguments[0].shape[2:]

    def without_rows(t):
        for place in range(t.dim() - 1):
            if t.shape[place : place + 2] == sides:
                return t.narrow(place, 0, 0)
        return t

    for empty, shape in (
        (lambda t: t[:0] if len(t) == B else t, (0, *arguments[0].shape[1:])),
        (without_rows, (*arguments[0].shape[:2], 0, sides[1])),
    ):
        each = lambda value: empty(value) if isinstance(value, torch.Tensor) else value  # noqa: B023, E731
        given = tuple([each(v) for v in value] if isinstance(value, list) else each(value) for value in arguments)
        assert all(result.shape == shape for result in run((name, given), backend))


@pytest.mark.parametrize("backend", ["cpu", "torch", triton])
def test_nan_passes_through(backend):
    D = torch.full((1, 1, 16, 16), float("nan"))
    y, s, weights = torch.zeros_like(D), torch.ones_like(D), lf.local_map.Weights(0.2, 5.0, 0.05, 5)
    for name, arguments in {
        "diagonal_map": (D, y, s, weights),
        "spectral_update": (D, y, s[0], weights),
        "clip_map": (D, y, 2.0, 2.0, 2.0, weights),
        "quantization_map": (D, y, 3, weights),
        "phase_projection": (torch.complex(D, D), torch.stack((s, s), -1)),
        "jpeg_map": (D, y, JpegCodec(1, TABLES[:1], (1, 1), False), weights),
        "add_normal": (D, KEYS[:1], 0, 1.0),
    }.items():
        assert getattr(ops, name)(*arguments, backend=backend).isnan().all(), name


# --- the table of levels


@pytest.mark.parametrize("backend", ["cpu", "emulated", "form", triton])
@pytest.mark.parametrize("column", COLUMNS[4:9])
def test_each_column_of_levels_stands_where_the_kernels_read_it(column, backend, monkeypatch):
    """All columns 0 but one, and then what the formula makes of it; noise is that of ops.normal."""
    generator = torch.Generator().manual_seed(0)
    x, y, F = (torch.randn(2, 3, 5, 7, generator=generator) for _ in range(3))
    s, keys = torch.ones(1, 1, 5, 7), KEYS[:2]
    row = dict.fromkeys(COLUMNS, 0.0) | {"K": 1.0, "lr": 0.5, column: 0.75}
    table = torch.tensor([[row[name] for name in COLUMNS]], dtype=torch.float64)
    buffers = (x, torch.empty_like(x), torch.empty_like(x))
    arguments = (*buffers, F, y, keys, table, 1, "diagonal_map", [s], list(MATRICES), [1, 1], False)
    got_x, got_x0, got_input = run(("step", arguments), backend, monkeypatch)
    D = row["skip"] * x + row["out"] * F  # c = 0: the local MAP is D
    x_next = D + row["keep"] * (x - D) + row["noise"] * ops.normal(keys, (3, 5, 7), draw=0)
    torch.testing.assert_close(got_x0, D)
    torch.testing.assert_close(got_x, x_next)
    torch.testing.assert_close(got_input, row["scale"] * x_next)


@pytest.mark.parametrize("backend", ["cpu", "emulated", "form", triton])
def test_weights_and_draws_of_levels(backend, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(1, 1, 5, 7, generator=generator) for _ in range(2))
    row = {"lam": 0.2, "c": 3.0, "lr": 0.05, "K": 4, "skip": 1, "out": 0, "keep": 0, "noise": 1, "scale": 0, "draw": 9}
    table = torch.tensor([[row[name] for name in COLUMNS]], dtype=torch.float64)
    buffers = (x, torch.empty_like(x), torch.empty_like(x))
    fixed = ("diagonal_map", [torch.ones(1, 1, 5, 7)], list(MATRICES), [1, 1], False)
    got_x, got_x0, _ = run(("step", (*buffers, None, y, KEYS[:1], table, 4, *fixed)), backend, monkeypatch)
    x0 = x
    for _ in range(4):
        x0 = x0 - 0.05 * (0.2 * (x0 - x) + 3.0 * (x0 - y))
    torch.testing.assert_close(got_x0, x0)
    torch.testing.assert_close(got_x, x0 + ops.normal(KEYS[:1], (1, 5, 7), draw=9))


def test_a_step_is_seen_by_autograd():
    x, *rest = SAMPLES["step-given-2d-1"][1]
    x = x.clone()
    version = x._version
    ops.REGISTRY["step"].operator(x, *(t.clone() for t in rest[:2]), *rest[2:])
    assert x._version > version
    with torch.inference_mode():
        inside = [t.clone() for t in (x, *rest[:2])]
        ops.REGISTRY["step"].operator(*inside, *rest[2:])
    assert inside[1].isfinite().all()


# --- the door


def changed(key, **change):
    """The arguments of a sample, some of them replaced by what a function makes of them."""
    name, arguments = SAMPLES[key]
    names = ops.REGISTRY[name].parameters
    return name, [change[n](a) if n in change else a for n, a in zip(names, arguments, strict=True)]


def strided(t):
    return torch.stack((t, t), -1)[..., 0]


DIAGONAL, CLIP, QUANTIZATION = "diagonal_map-2d-3-torch.float32-1", "clip_map-2d-3-torch.float32", "quantization_map"
SPECTRAL, NORMAL, PHASE = (
    f"{name}-2d-3-torch.float32" for name in ("spectral_update", "add_normal", "phase_projection")
)
QUANTIZATION, JPEG = f"{QUANTIZATION}-2d-3-torch.float32", f"jpeg_map-3-{CODECS[0][1]}-[2, 2]-True-3-torch.float32"
STEP, GIVEN = "step-diagonal_map-2d-3", "step-given-2d-3"
BAD = [
    (DIAGONAL, {"D": lambda t: t.half()}, "D must be float32 or float64, not torch.float16: convert it with"),
    (DIAGONAL, {"D": lambda t: t[0, 0, 0, 0]}, "D has no dimensions"),
    (DIAGONAL, {"b": lambda t: t.double()}, "b is torch.float64 but D is torch.float32: convert one"),
    (DIAGONAL, {"b": strided}, "b is not contiguous: call"),
    (DIAGONAL, {"D": strided}, "D is not contiguous: call"),
    (DIAGONAL, {"b": lambda t: t[:1]}, r"b has shape \[1, 2, 9, 31\] but D has \[3, 2, 9, 31\]: they must"),
    (DIAGONAL, {"b": lambda t: t.to("meta")}, "b is on meta but D is on cpu: move one of them"),
    (
        DIAGONAL,
        {"s": lambda t: t[..., :4].contiguous()},
        r"s has shape \[3, 1, 9, 4\]: D of shape .* needs \[1 or B, 1",
    ),
    (DIAGONAL, {"s": lambda t: t[:2]}, r"s has shape \[2, 1, 9, 31\] for 3 images: it needs \[1 or B, 1, 9, 31\]"),
    (DIAGONAL, {"s": lambda t: t.double()}, "s must be torch.float32, not torch.float64: convert it"),
    (DIAGONAL, {"s": lambda t: t[0, 0, 0, 0]}, "s has shape"),
    (DIAGONAL, {"weights": lambda t: t[:2]}, r"weights has shape \[2, 4\] for 3 images: it needs \[1 or B, 4\]"),
    (DIAGONAL, {"weights": lambda t: t[0]}, r"weights has shape \[4\]"),
    (DIAGONAL, {"weights": lambda t: t.float()}, "weights must be torch.float64, not torch.float32"),
    (DIAGONAL, {"weights": lambda t: t.to("meta")}, "weights is on meta but the image is on cpu"),
    (DIAGONAL, {"weights": strided}, "weights is not contiguous"),
    (SPECTRAL, {"s": lambda t: t[0, 0]}, r"s has shape \[31\]: D of shape .* needs \[1 or B, \*last"),
    (SPECTRAL, {"s": lambda t: t[:, :4].contiguous()}, "s has shape"),
    (CLIP, {"parameters": lambda t: t[:, :2].contiguous()}, r"parameters has shape \[3, 2\] for 3 images: .* B, 3\]"),
    (QUANTIZATION, {"parameters": lambda t: t[:0]}, r"parameters has shape \[0, 1\]"),
    (QUANTIZATION, {"y": lambda t: t.flatten(1)}, "y has shape"),
    (PHASE, {"X": lambda t: t.real.contiguous()}, "X is torch.float32: it must be complex"),
    (PHASE, {"y": lambda t: t[..., 0].contiguous()}, "y has shape .* but the real view of X has"),
    (
        JPEG,
        {"D": lambda t: t[:, :2].contiguous(), "y": lambda t: t[:, :2].contiguous()},
        r"JPEG needs \[B, 1 or 3, H, W",
    ),
    (JPEG, {"tables": lambda t: t.double()}, "tables must be torch.float32"),
    (JPEG, {"tables": lambda t: t[:2]}, "tables has shape"),
    (JPEG, {"matrices": lambda m: m[:9]}, "JPEG needs 18 numbers of colour matrices"),
    (JPEG, {"subsampling": lambda s: [4, 4]}, "chroma subsampling by 1 or 2"),
    (NORMAL, {"keys": lambda t: t[:2]}, "but x holds 3 images on cpu: give one int64 key for each"),
    (NORMAL, {"keys": lambda t: t.int()}, "keys are torch.int32"),
    (NORMAL, {"keys": strided}, "keys is not contiguous"),
    (NORMAL, {"draw": lambda t: t.double()}, "draw must be torch.int64"),
    (NORMAL, {"sigma": lambda t: t[0]}, "sigma has shape"),
    (STEP, {"x": lambda t: t.double()}, "x is torch.float64: the fused step is for float32"),
    (STEP, {"x0": lambda t: t[:1]}, "x0 has shape"),
    (STEP, {"x": lambda t: t.clone().requires_grad_()}, "the fused step has no gradient: call it under torch.no_grad"),
    (STEP, {"F": lambda t: t.contiguous()}, "F has strides .* both be contiguous or both channels_last"),
    (STEP, {"F": lambda t: t.double()}, "F is torch.float64: F and network_input must both be float32, bfloat16 or"),
    (
        STEP,
        {"levels": lambda t: t[:, :9].contiguous()},
        r"levels has shape \[3, 9\] for 3 images: it needs \[1 or B, 10\]",
    ),
    (STEP, {"kind": lambda k: "spectral_update"}, "unknown local MAP 'spectral_update': choose one of given, diag"),
    (STEP, {"numbers": lambda n: []}, "diagonal_map needs one tensor of numbers, not 0: see PixelMap"),
    (STEP, {"kind": lambda k: "clip_map"}, "parameters has shape"),
    (STEP, {"kind": lambda k: "jpeg_map"}, "tables has shape"),
    (GIVEN, {"numbers": lambda n: [torch.ones(1)]}, "a local MAP that is given has no numbers: leave them out"),
]


@pytest.mark.parametrize("backend", ["cpu", "torch", triton])
@pytest.mark.parametrize(("key", "change", "sentence"), BAD)
def test_bad_arguments_are_refused_in_one_sentence(key, change, sentence, backend):
    """The flat calls of torch.ops.lmaps_fast, with what would crash a kernel on raw addresses."""
    name, arguments = changed(key, **change)
    operation = ops.REGISTRY[name]
    with pytest.raises(lf.InputError, match=sentence) as caught:
        operation.operator(*arguments) if backend == "cpu" else operation(backend, *arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("backend", ["cpu", "torch", triton])
def test_buffers_of_a_step_must_lie_apart(backend):
    _, (x, _, _, _, y, keys, *_) = SAMPLES["step-given-1d-3"]
    local_map, table, n = ops.PixelMap("given", y), levels(), x.numel()
    memory = torch.zeros(4 * n)
    part = lambda begin: memory[begin : begin + n].view_as(x)  # noqa: E731
    for places in ((0, 0, n), (0, n, n), (0, 2 * n, 1), (n, 3 * n, n - 1)):
        with pytest.raises(lf.InputError, match="x, x0, network_input share memory, but each is overwritten"):
            ops.step(local_map, *map(part, places), None, keys=keys, levels=table, most=MOST, backend=backend)
    ops.step(local_map, part(n), part(0), part(2 * n), None, keys=keys, levels=table, most=MOST, backend=backend)
    assert torch.equal(part(0), y)


def test_a_codec_must_have_the_channels_of_the_images():
    grey = torch.zeros(1, 1, 16, 16)
    with pytest.raises(lf.InputError, match=r"D has shape \[1, 1, 16, 16\]: this JPEG codec needs \[B, 3, H, W\]"):
        ops.jpeg_map(grey, grey, JpegCodec(3, TABLES[:1], (2, 2), True), WEIGHTS[0])


def test_weights_of_another_batch_are_refused():
    D = torch.zeros(2, 1, 4, 4)
    with pytest.raises(lf.InputError, match=r"weights has shape \[3, 4\] for 2 images: it needs \[1 or B, 4\]"):
        ops.quantization_map(D, D, 3, WEIGHTS)
    with pytest.raises(lf.InputError, match="there are no weights"):
        ops.quantization_map(D, D, 3, [])
    with pytest.raises(lf.InputError, match=r"parameters has shape \[3, 1\]"):
        ops.quantization_map(D, D, [3, 4, 5], WEIGHTS[0])


def test_a_form_takes_no_more_steps_than_most():
    """`most` bounds the PyTorch forms, which count on the host; kernels read K from the row."""
    D, y, parameters = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4), INTERVALS[:1]
    first = ROWS[1:2].clone()
    first[:, 3] = 2
    operation = ops.REGISTRY["quantization_map"]
    assert torch.equal(operation.form(D, y, parameters, ROWS[1:2], 2), operation.form(D, y, parameters, first, 2))


# --- backends


def test_use_backend_is_seen_in_threads():
    with ThreadPoolExecutor(1) as before:
        before.submit(int).result()
        with lf.use_backend("torch"), ThreadPoolExecutor(1) as inside:
            assert before.submit(backends.requested).result() == "torch"
            assert inside.submit(backends.requested).result() == "torch"
        assert before.submit(backends.requested).result() is None


def test_a_choice_in_a_thread_goes_before_that_of_another():
    def nested():
        with lf.use_backend("torch"):
            outer = backends.requested()
            with lf.use_backend("cpu"):
                inner = backends.requested()
        return outer, inner, backends.requested()

    with ThreadPoolExecutor(4) as pool:
        with lf.use_backend("reference"):
            results = [pool.submit(nested) for _ in range(40)]
            assert {result.result() for result in results} == {("torch", "cpu", "reference")}
            assert backends.requested() == "reference"
        assert pool.submit(backends.requested).result() is None


def test_without_a_native_backend_the_form_runs(monkeypatch):
    _, arguments = SAMPLES[CLIP]
    monkeypatch.setattr(backends, "native", lambda: "the native extension is not built")
    operation = ops.REGISTRY["clip_map"]
    for result in (operation(None, *arguments), operation.operator(*arguments)):
        assert torch.equal(result, operation.form(*arguments))
    with pytest.raises(lf.InputError, match="backend 'cpu' cannot run here: the native extension is not built"):
        operation("cpu", *arguments)


def test_direct_calls_with_nonsense_never_crash_the_process():
    """In a process of its own: whatever is given, the worst is an exception."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import random, torch\n"
        "from op_samples import SAMPLES\n"
        "from lmaps_fast import ops\n"
        "odd = [None, -1, 0, 'x', torch.zeros(0), torch.zeros(()), torch.zeros(2, 2), torch.zeros(1).long(), [],\n"
        "       [torch.ones(1)], torch.ones(3, 2, 9, 31), torch.ones(3, 2, 9, 31).half(), torch.ones(3, 10).double(),\n"
        "       torch.zeros(1, 2, dtype=torch.complex64), torch.zeros(3, 4).double(), True, 1e300, 2**40]\n"
        "random.seed(0)\n"
        "errors = 0\n"
        "for name, arguments in list(SAMPLES.values()):\n"
        "    for _ in range(20):\n"
        "        given = [random.choice(odd) if random.random() < .2 else a for a in arguments]\n"
        "        try: ops.REGISTRY[name].operator(*given)\n"
        "        except Exception: errors += 1\n"
        "print('errors', errors)\n"
    )
    command = [sys.executable, "-c", script, os.path.dirname(__file__)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[-1]) > 1000
