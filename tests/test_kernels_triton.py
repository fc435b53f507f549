"""The Triton launchers against loops in PyTorch, image by image, under Triton's interpreter where there is no GPU.

Images of one batch have weights, numbers and draws of their own. That the kernels compile for three architectures is in
test_kernel_resources.py.
"""

import math

import pytest
import torch
import torch.nn.functional as nn
from conftest import photo_like

pytest.importorskip("triton", reason="triton is optional: GPUs without a CUDA build of the extension")

from lmaps_fast.kernels import jpeg, normal, pointwise
from lmaps_fast.kernels.step import step

# The interpreter makes a number of an array where a loop ends.
pytestmark = pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning")

DTYPES = [torch.float64, torch.float32]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
WEIGHTS = torch.tensor([[0.3, 1.4, 0.1, 1], [0.6, 2.0, 0.2, 6], [0.0, 0.9, 0.3, 4]], dtype=torch.float64, device=DEVICE)
MOST = 6
CLIPS = torch.tensor([[2.0, 2.0, 2.0], [1.5, 1.5, 0.2], [2.0, 2.0, 0.0]], dtype=torch.float64, device=DEVICE)
INTERVALS = torch.tensor([[3.0], [15.0], [31.0]], dtype=torch.float64, device=DEVICE)
FORWARD = torch.tensor([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]], dtype=torch.float64)
MATRICES = [*FORWARD.flatten().tolist(), *torch.linalg.inv(FORWARD).flatten().tolist()]
TABLES = torch.stack([torch.arange(1.0, 129).view(2, 8, 8) * (n + 1) for n in range(3)]).to(DEVICE)
KEYS = torch.tensor([2**63 - 5, 12345678901234, 3], device=DEVICE)
CODECS = [(1, (1, 1), False), *((3, s, mean) for s in ((1, 1), (1, 2), (2, 2)) for mean in (False, True))]


@pytest.fixture(autouse=True)
def nan_where_nothing_is_written(monkeypatch):
    empty = torch.empty_like
    monkeypatch.setattr(torch, "empty_like", lambda t: empty(t).fill_(float("nan")))


def draw(generator, *size, dtype=torch.float32):
    return torch.randn(size, generator=generator, dtype=dtype).to(DEVICE)


def same(result, expected, flips=0):
    """Equal but for rounding and, in float32, for `flips` entries whose quantizer index fell to the other side."""
    single = expected.dtype in (torch.float32, torch.complex64)
    error = (result - expected).abs() - (1e-5 if single else 1e-12) * (1 + expected.abs())
    assert result.dtype == expected.dtype
    return result.shape == expected.shape and (~(error <= 0)).sum() <= (flips if single else 0)


def row(table, n):
    """Row of image n, with a leading axis of 1."""
    return table[n % len(table)][None]


def loop(D, weights, data_gradient):
    """The K steps of each image: data_gradient(x [1, ...], n) is A'(x)^T (A(x) - y) of image n."""
    images = []
    for n in range(len(D)):
        x = start = D[n : n + 1]
        lam, c, lr, steps = row(weights, n)[0].tolist()
        for _ in range(int(steps)):
            x = x - lr * (lam * (x - start) + c * data_gradient(x, n))
        images.append(x)
    return torch.cat(images)


def clip_gradient(y, clips):
    def gradient(x, n):
        gain, inside, outside = row(clips, n)[0].tolist()
        clipped = (gain * x).clamp(-1, 1)
        return (inside + (outside - inside) * (clipped != gain * x).to(x.dtype)) * (clipped - y[n])

    return gradient


def quantization_gradient(y, intervals):
    count = intervals.flatten().tolist()
    return lambda x, n: 2 * (count[n] * (x + 1) / 2 + 0.5).floor() / count[n] - 1 - y[n]


def codec(x, table, subsampling, average):
    """What x [1, C, H, W] looks like after JPEG with tables [1, 2, 8, 8]."""
    height, width = x.shape[2:]
    (sub_h, sub_w), dtype = subsampling, x.dtype
    k, j = (torch.arange(8.0, dtype=torch.float64, device=x.device).view(shape) for shape in ((8, 1), (1, 8)))
    dct = 0.5 * torch.cos((2 * j + 1) * k * math.pi / 16)
    dct[0] *= 0.5**0.5
    dct, (forward, inverse) = dct.to(dtype), torch.tensor(MATRICES, dtype=torch.float64).to(x).view(2, 3, 3)
    planes = 127.5 * nn.pad(x, (0, -width % (8 * sub_w), 0, -height % (8 * sub_h)), mode="replicate")
    planes = planes if x.shape[1] == 1 else torch.einsum("ij,bjhw->bihw", forward, planes)
    decoded = []
    for number, plane in enumerate(planes.unbind(1)):
        q, subsampled = table[0, min(number, 1)].to(dtype), number > 0
        if subsampled:
            plane = nn.avg_pool2d(plane, subsampling) if average else plane[..., ::sub_h, ::sub_w]
        blocks = (plane - 0.5 * (not subsampled)).unflatten(2, (-1, 8)).unflatten(1, (-1, 8)).transpose(2, 3)
        blocks = dct.T @ (((dct @ blocks @ dct.T) / q).round() * q) @ dct
        plane = blocks.transpose(2, 3).flatten(3, 4).flatten(1, 2) + 0.5 * (not subsampled)
        decoded.append(plane.repeat_interleave(sub_h, 1).repeat_interleave(sub_w, 2) if subsampled else plane)
    planes = torch.stack(decoded, 1)
    planes = planes if x.shape[1] == 1 else torch.einsum("ij,bjhw->bihw", inverse, planes)
    return planes[..., :height, :width] / 127.5


def jpeg_problem(size, channels, subsampling, average, dtype):
    """D and the measurement y of three images, each with a table of its own, and the arguments that follow them."""
    D, clean = (photo_like(3, (channels, *size), dtype, seed=seed).to(DEVICE) for seed in (0, 1))
    y = torch.cat([codec(clean[n : n + 1], row(TABLES, n), subsampling, average) for n in range(3)]).contiguous()
    return D, y, (TABLES, MATRICES, subsampling, average)


def standard_normal(key, number, count):
    """`count` normal numbers of a key and a draw, in float64: Philox4x32-10 and Box-Muller."""
    words, numbers = 0xFFFFFFFF, torch.zeros(-(-count // 256), 4, 64, dtype=torch.float64)
    for counter in range(64 * len(numbers)):
        c, k0, k1 = [counter, 0, number, 0], key & words, key >> 32
        for _ in range(10):
            p, q = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
            c = [(q >> 32) ^ c[1] ^ k0, q & words, (p >> 32) ^ c[3] ^ k1, p & words]
            k0, k1 = k0 + 0x9E3779B9 & words, k1 + 0xBB67AE85 & words
        for i in (0, 2):
            radius = math.sqrt(-2 * math.log(((c[i] >> 8) + 1) * 2**-24))
            quadrant = (c[i + 1] >> 31) + 2 * (c[i + 1] >> 30 & 1)
            angle = math.pi / 2 * (quadrant + (c[i + 1] >> 6 & 0xFFFFFF) * 2**-24 - 0.5)
            numbers[counter // 64, i, counter % 64] = radius * math.cos(angle)
            numbers[counter // 64, i + 1, counter % 64] = radius * math.sin(angle)
    return numbers.flatten()[:count]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(3, 3, 17, 33), (3, 2, 601), (3, 1, 5, 7, 9)], ids=str)
def test_diagonal_map(shape, dtype, generator):
    D, b = (draw(generator, *shape, dtype=dtype) for _ in range(2))
    for images in (1, 3):
        for channels in (1, shape[1]):
            s = draw(generator, images, channels, *shape[2:], dtype=dtype).abs()
            expected = loop(D, WEIGHTS, lambda x, n, s=s: row(s, n) * x - b[n])
            assert same(pointwise.diagonal_map(D, b, s, WEIGHTS, MOST), expected)
    assert same(
        pointwise.diagonal_map(D, b, s, WEIGHTS[1:2], MOST), loop(D, WEIGHTS[1:2], lambda x, n: row(s, n) * x - b[n])
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("lead", "coefficients"), [((2,), (19, 33)), ((), (700,)), ((2, 3), (5, 4, 3))], ids=str)
def test_spectral_update(lead, coefficients, dtype, generator):
    D, b = (draw(generator, 3, *lead, *coefficients, dtype=dtype) for _ in range(2))
    for images in (1, 3):
        s = draw(generator, images, *coefficients, dtype=dtype).abs()
        expected = loop(D, WEIGHTS, lambda x, n, s=s: row(s, n) * x - b[n]) - D
        assert same(pointwise.spectral_update(D, b, s, WEIGHTS, MOST), expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_scalar_maps(dtype, generator):
    D, y = (draw(generator, 3, 2, 13, 31, dtype=dtype) for _ in range(2))
    y = y.clamp(-1, 1)
    for weights in (WEIGHTS, WEIGHTS[1:2]):
        for clips in (CLIPS, CLIPS[:1].expand(3, 3).contiguous()):
            expected = loop(D, weights, clip_gradient(y, clips))
            assert same(pointwise.clip_map(D, y, clips, weights, MOST), expected, flips=3)
        expected = loop(D, weights, quantization_gradient(y, INTERVALS))
        assert same(pointwise.quantization_map(D, y, INTERVALS, weights, MOST), expected, flips=3)
    one = pointwise.clip_map(D, y, CLIPS[1:2], WEIGHTS, MOST)
    assert same(one, loop(D, WEIGHTS, clip_gradient(y, CLIPS[1:2])), flips=3)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_phase_projection(dtype, generator):
    X = torch.view_as_complex(draw(generator, 2, 3, 37, 27, 2, dtype=dtype))
    X[0, 0, 0, :5] = 0
    y = draw(generator, 2, 3, 37, 27, dtype=dtype).abs()
    assert same(pointwise.phase_projection(X, torch.stack((y, y), -1)), y * X.sgn())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(1,), (257,), (3, 14, 23)], ids=str)
def test_add_normal(shape, dtype, generator):
    x, count = draw(generator, 3, *shape, dtype=dtype), math.prod(shape)
    draws, sigma = torch.tensor([0, 7, 2**32 - 1], device=DEVICE), torch.tensor([0.5, 0.1, 2.0]).double().to(DEVICE)
    for numbers, sigmas in ((draws, sigma), (draws[1:2], sigma), (draws, sigma[:1])):
        result = normal.add_normal(x, KEYS, numbers, sigmas)
        for n in range(3):
            eps = standard_normal(int(KEYS[n]), int(row(numbers, n)), count).view(shape).to(DEVICE)
            expected = x[n].double() + row(sigmas, n) * eps
            torch.testing.assert_close(result[n].double(), expected, rtol=0, atol=5e-6)  # float32 inside


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("channels", "subsampling", "average"), CODECS)
def test_jpeg_map(channels, subsampling, average, dtype):
    for size in ((16, 16), (5, 9), (18, 17)):  # whole MCUs; nothing but border; both
        D, y, arguments = jpeg_problem(size, channels, subsampling, average, dtype)
        result = jpeg.jpeg_map(D, y, *arguments, WEIGHTS, MOST)
        expected = loop(D, WEIGHTS, lambda x, n, y=y: codec(x, row(TABLES, n), subsampling, average) - y[n])
        assert same(result, expected, flips=768)  # one coefficient of chroma
    one = jpeg.jpeg_map(D, y, TABLES[:1], *arguments[1:], WEIGHTS[2:], MOST)
    expected = loop(D, WEIGHTS[2:], lambda x, n: codec(x, TABLES[:1], subsampling, average) - y[n])
    assert same(one, expected, flips=768)


def leaves(generator):
    """{name: (call, tensors of three images, arguments that follow)}"""
    D, y, s = (draw(generator, 3, 3, 17, 23) for _ in range(3))
    grey = draw(generator, 3, 1, 17, 23)
    codec_of = lambda tables, weights: (tables, MATRICES, (1, 1), False, weights)  # noqa: E731
    return {
        "diagonal_map": (pointwise.diagonal_map, (D, y, s.abs(), WEIGHTS)),
        "spectral_update": (pointwise.spectral_update, (D, y, s[:, 0].abs().contiguous(), WEIGHTS)),
        "clip_map": (pointwise.clip_map, (D, y, CLIPS, WEIGHTS)),
        "quantization_map": (pointwise.quantization_map, (D, y, INTERVALS, WEIGHTS)),
        "jpeg_map": (
            lambda D, y, t, w, most: jpeg.jpeg_map(D, y, *codec_of(t, w), most),
            (grey, grey, TABLES, WEIGHTS),
        ),
        "add_normal": (
            lambda *tensors: normal.add_normal(*tensors[:4]),
            (D, KEYS, KEYS % 2**20, WEIGHTS[:, 0].clone()),
        ),
    }


def test_an_image_is_what_it_is_alone(generator):
    for name, (call, tensors) in leaves(generator).items():
        together = call(*tensors, MOST)
        for n in range(3):
            most = int(WEIGHTS[n, 3])
            assert torch.equal(call(*(t[n : n + 1] for t in tensors), most), together[n : n + 1]), name


def test_nan_is_passed_on(generator):
    for name, (call, tensors) in leaves(generator).items():
        D = torch.full_like(tensors[0], float("nan"))
        # What was not written is NaN here too, so the other tests must hold for this one to mean anything.
        assert call(D, *tensors[1:], MOST).isnan().all(), name


def test_empty_batches(generator):
    for name, (call, tensors) in leaves(generator).items():
        assert call(tensors[0][:0], *tensors[1:], MOST).shape == tensors[0][:0].shape, name
    x, levels = torch.zeros(0, 3, 8, 8, device=DEVICE), torch.zeros(1, 10).double().to(DEVICE)
    step(x, x, x, None, x, KEYS[:0], levels, 1, "given", [], [], [1, 1], False)


# skip, out, keep, noise, scale, draw
AROUND = torch.tensor([[0.6, 0.3, 0.25, 0.4, 0.7, 5], [1.0, 0.2, 0.9, 0.0, 0.5, 6], [0.8, -0.4, 0.0, 0.9, 1.5, 0]])
LEVELS = torch.cat([WEIGHTS, AROUND.double().to(DEVICE)], 1)
NO_CODEC = ([], [1, 1], False)


def in_parts(local_map, x, F, levels):
    """x0 and the next x of a step, each part on its own."""
    skip, out, keep, noise = (levels[:, k].float().view(-1, *(1,) * (x.dim() - 1)) for k in range(4, 8))
    D = skip * x + (0 if F is None else out * F.float())
    x0 = local_map(D)
    x = normal.add_normal(x0 + keep * (x - x0), KEYS[: len(x)], levels[:, 9].long(), noise.double().flatten())
    return x0, x


def check_step(kind, local_map, x, F, y, levels, numbers, rest, flips=0):
    x0, network_input = torch.full_like(x, float("nan")), torch.full_like(F, float("nan"))
    given = None if kind == "given" else F
    wanted_x0, wanted_x = in_parts(local_map, x, given, levels)
    x = x.clone()
    step(x, x0, network_input, given, y, KEYS, levels, MOST, kind, numbers, *rest)
    assert same(x0, wanted_x0, flips)
    assert same(x, wanted_x, flips)
    scale = levels[:, 8].float().view(-1, *(1,) * (x.dim() - 1))
    rounding = torch.finfo(F.dtype).eps if F.dtype != torch.float32 else 1e-6  # the interpreter cuts bfloat16 off
    torch.testing.assert_close(network_input.float(), scale * x, rtol=rounding, atol=1e-6)


LAYOUTS = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["NCHW", "NHWC"])
NETWORKS = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)


@LAYOUTS
@NETWORKS
def test_step_of_pixels(dtype, layout, generator):
    x, y = (draw(generator, 3, 3, 11, 17) for _ in range(2))
    F = draw(generator, *x.shape).to(dtype, memory_format=layout)
    check_step("given", lambda D: y, x, F, y, LEVELS, [], NO_CODEC)
    for levels in (LEVELS, LEVELS[:1]) if dtype == torch.float32 else (LEVELS,):
        maps = [("diagonal_map", s.abs(), 0) for s in (draw(generator, 1, 1, 11, 17), draw(generator, *x.shape))]
        for kind, rows, flips in (*maps, ("clip_map", CLIPS, 0), ("quantization_map", INTERVALS, 3)):
            tail = (y, rows, levels[:, :4].contiguous(), MOST)
            exact = lambda D, kind=kind, tail=tail: getattr(pointwise, kind)(D, *tail)  # noqa: E731
            check_step(kind, exact, x, F, y, levels, [rows], NO_CODEC, flips)


@LAYOUTS
@NETWORKS
@pytest.mark.parametrize("size", [(16, 32), (18, 17)], ids=str)
def test_step_of_jpeg(size, dtype, layout, generator):
    for variant in (CODECS[0], CODECS[-1]) if dtype == torch.bfloat16 else CODECS[-2:-1]:
        x, y, (tables, *rest) = jpeg_problem(size, *variant, torch.float32)
        F = draw(generator, *x.shape).to(dtype, memory_format=layout)
        exact = lambda D, y=y, rest=rest: jpeg.jpeg_map(D, y, TABLES, *rest, WEIGHTS, MOST)  # noqa: E731
        check_step("jpeg_map", exact, x, F, y, LEVELS, [tables], rest, flips=768)


@pytest.mark.parametrize("shape", [(2, 700), (1, 3, 5, 11), (1, 9, 20)], ids=str)
def test_step_of_other_images(shape, generator):
    x, y, F = (draw(generator, 3, *shape) for _ in range(3))
    s = draw(generator, 3, 1, *shape[1:]).abs()
    exact = lambda D: pointwise.diagonal_map(D, y, s, WEIGHTS, MOST)  # noqa: E731
    check_step("diagonal_map", exact, x, F, y, LEVELS, [s], NO_CODEC)


def test_a_step_is_what_it_is_alone(generator):
    for kind, numbers, rest in (
        ("given", [], NO_CODEC),
        ("diagonal_map", [draw(generator, 3, 1, 9, 17).abs()], NO_CODEC),
        ("clip_map", [CLIPS], NO_CODEC),
        ("quantization_map", [INTERVALS], NO_CODEC),
        ("jpeg_map", [TABLES], (MATRICES, [2, 2], True)),
    ):
        x, y, F = (draw(generator, 3, 3, 9, 17) for _ in range(3))

        def run(images, kind=kind, numbers=numbers, rest=rest, x=x, y=y, F=F):
            out = x[images].clone(), torch.empty_like(x[images]), torch.empty_like(F[images])
            given = [n[images] for n in numbers]
            step(*out, F[images], y[images], KEYS[images], LEVELS[images], MOST, kind, given, *rest)
            return out

        together = run(slice(0, 3))
        for n in range(3):
            for alone, whole in zip(run(slice(n, n + 1)), together, strict=True):
                assert torch.equal(alone, whole[n : n + 1]), kind


def test_without_noise_nothing_is_drawn_and_x_may_be_all_kept():
    x, y = torch.ones(1, 3, 8, 8, device=DEVICE), torch.zeros(1, 3, 8, 8, device=DEVICE)
    levels = torch.tensor([[0.5, 1.0, 0.1, 1, 1.0, 0.0, 1.0, 0.0, 2.0, 0]], dtype=torch.float64, device=DEVICE)
    x0, network_input = torch.empty_like(x), torch.empty_like(x)
    step(x, x0, network_input, None, y, KEYS[:1], levels, 1, "given", [], *NO_CODEC)
    assert torch.equal(x, torch.ones_like(x))
    assert torch.equal(x0, y)
    assert torch.equal(network_input, 2 * x)
