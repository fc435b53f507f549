"""The Triton kernels against the PyTorch forms, under Triton's interpreter where there is no GPU.

That they compile for three architectures is in test_kernel_resources.py."""

import pytest
import torch
from conftest import photo_like, random_weights

import lmaps_fast as lf
from lmaps_fast import ops
from lmaps_fast.ops.jpeg_codec import SUBSAMPLINGS, JpegCodec, quality_tables

pytest.importorskip("triton", reason="triton is optional: GPUs without a CUDA build of the extension")

# The interpreter makes a number of an array where a loop ends.
pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning")

SHAPES = [(1, 3, 37, 53), (3, 1, 40, 48)]
DTYPES = [torch.float64, torch.float32]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CODECS = [
    (1, "4:4:4", False),
    (3, "4:4:4", True),
    *((3, s, mean) for s in ("4:2:2", "4:2:0") for mean in (False, True)),
]


@pytest.fixture(autouse=True)
def nan_where_nothing_is_written(monkeypatch):
    empty = torch.empty_like
    monkeypatch.setattr(torch, "empty_like", lambda t: empty(t).fill_(float("nan")))


def equal(operation, *arguments, flips=0):
    """Whether Triton and PyTorch agree, but for `flips` entries in float32, where rounding boundaries go either way."""
    result = getattr(ops, operation)(*arguments, backend="triton")
    expected = getattr(ops, operation)(*arguments, backend="torch")
    single = expected.dtype in (torch.float32, torch.complex64)
    error = (result - expected).abs() - (1e-5 if single else 1e-12) * (1 + expected.abs())
    return (~(error <= 0)).sum() <= (flips if single else 0)


def jpeg_codec(channels, quality, subsampling, average):
    tables = quality_tables(quality)[None].float().to(DEVICE)
    return JpegCodec(channels, tables, SUBSAMPLINGS[subsampling], average)


def draw(generator, *size, dtype):
    return torch.randn(size, generator=generator, dtype=dtype).to(DEVICE)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("steps", [1, 7, 100])
def test_linear_maps(shape, dtype, steps, generator):
    D, y, s = (draw(generator, *size, dtype=dtype) for size in (shape, shape, (1, *shape[2:])))
    weights = lf.local_map.Weights(0.3, 2.0, 0.1, steps)
    for masks in (1, shape[0]):
        assert equal("diagonal_map", D, y, draw(generator, masks, 1, *shape[2:], dtype=dtype).abs(), weights)
    assert equal("spectral_update", D, y, s.abs(), weights)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("steps", [1, 30])
def test_scalar_maps(shape, dtype, steps, generator):
    D, y = (draw(generator, *shape, dtype=dtype) for _ in range(2))
    for outside in (2.0, 0.25):
        weights = random_weights("high_dynamic_range", generator, steps)
        assert equal("clip_map", D, y.clamp(-1, 1), 2.0, 2.0, outside, weights, flips=3)
    weights = random_weights("quantization", generator, steps)
    assert equal("quantization_map", D, y, 3, weights, flips=3)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_phase_projection(dtype, generator):
    X = torch.view_as_complex(draw(generator, 2, 3, 37, 27, 2, dtype=dtype))
    X[0, 0, 0, :5] = 0
    assert equal("phase_projection", X, draw(generator, 2, 3, 37, 27, dtype=dtype).abs()[..., None].expand(*X.shape, 2))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(1,), (255,), (257,), (1, 37, 53)], ids=str)
def test_add_normal(shape, dtype, generator):
    keys = torch.tensor([2**63 - 5, 12345678901234, 3], device=DEVICE)
    x = draw(generator, 3, *shape, dtype=dtype)
    for number in (0, 7):
        expected = ops.add_normal(x, keys, number, 0.5, backend="torch")
        result = ops.add_normal(x, keys, number, 0.5, backend="triton")
        torch.testing.assert_close(result, expected, rtol=0, atol=2e-6)  # float32 inside
    assert torch.equal(result[1:2], ops.add_normal(x[1:2], keys[1:2], 7, 0.5, backend="triton"))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("channels", "subsampling", "average"), CODECS)
def test_jpeg_map(channels, subsampling, average, dtype, generator):
    codec = jpeg_codec(channels, 20, subsampling, average)
    weights = random_weights("jpeg_restoration", generator, 10)
    for size in ((24, 40), (32, 48), (9, 12)):  # 24 x 40: MCUs of 16 pixels leave a border; 9 x 12: little but border
        D, clean = (photo_like(2, (channels, *size), dtype, seed=seed).to(DEVICE) for seed in (0, 1))
        assert equal("jpeg_map", D, codec(clean), codec, weights, flips=768)  # one coefficient of chroma


def test_nan_is_passed_on():
    D = torch.full((1, 1, 16, 16), float("nan"), device=DEVICE)
    y, s, weights = torch.zeros_like(D), torch.ones_like(D), lf.local_map.Weights(0.2, 5.0, 0.05, 5)
    for name, arguments in {
        "diagonal_map": (D, y, s, weights),
        "spectral_update": (D, y, s[0], weights),
        "clip_map": (D, y, 2.0, 2.0, 2.0, weights),
        "quantization_map": (D, y, 3, weights),
        "phase_projection": (torch.complex(D, D), torch.stack((s, s), -1)),
        "jpeg_map": (D, y, jpeg_codec(1, 5, "4:4:4", False), weights),
        "add_normal": (D, torch.zeros(1, dtype=torch.int64, device=DEVICE), 0, 1.0),
    }.items():
        # What was not written is NaN here too, so the other tests must hold for this one to mean anything.
        assert getattr(ops, name)(*arguments, backend="triton").isnan().all(), name


def test_an_empty_batch():
    D, weights = torch.zeros(0, 3, 16, 16, device=DEVICE), lf.local_map.Weights(0.2, 5.0, 0.05, 5)
    assert ops.quantization_map(D, D, 3, weights, backend="triton").shape == D.shape
    assert ops.jpeg_map(D, D, jpeg_codec(3, 5, "4:2:0", True), weights, backend="triton").shape == D.shape


@pytest.mark.parametrize(
    ("operation", "arguments", "sentence"),
    [
        ("clip_map", (torch.zeros(2, 8).half(), torch.zeros(2, 8).half(), 2.0, 2.0, 2.0), "D must be float32 or"),
        ("quantization_map", (torch.zeros(2, 8), torch.zeros(2, 9), 3), r"y has shape \[2, 9\] but D has \[2, 8\]"),
        (
            "spectral_update",
            (torch.zeros(2, 8), torch.zeros(2, 8), torch.zeros(8)),
            r"D of shape .* needs \[1 or B, \*last",
        ),
    ],
)
def test_bad_tensors(operation, arguments, sentence):
    on_device = (a.to(DEVICE) if isinstance(a, torch.Tensor) else a for a in arguments)
    with pytest.raises(lf.InputError, match=sentence):
        getattr(ops, operation)(*on_device, lf.local_map.Weights(0.2, 5.0, 0.05, 5), backend="triton")


def test_keys_must_be_one_for_each_image():
    with pytest.raises(lf.InputError, match="x holds 2 images"):
        ops.add_normal(torch.zeros(2, 8, device=DEVICE), torch.zeros(3, dtype=torch.int64), 0, 1.0, backend="triton")
