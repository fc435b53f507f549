"""Arguments for each operation of ops.REGISTRY: rows that differ between images, sizes that nothing divides."""

from itertools import product

import torch
from conftest import photo_like
from torch import Tensor

from lmaps_fast import ops
from lmaps_fast.levels import COLUMNS
from lmaps_fast.ops import backends, native
from lmaps_fast.ops.jpeg_codec import MATRICES, quality_tables
from lmaps_fast.weights import Weights

B = 3
SPATIAL = ((29,), (9, 31), (4, 5, 7))  # one, two and three axes
WEIGHTS = [Weights(0.3, 20, 0.02, 1), Weights(0.8, 5, 0.3, 13), Weights(0.1, 2, 0.4, 7)]
ROWS = torch.tensor([[w.lam, w.c, w.lr, w.steps] for w in WEIGHTS], dtype=torch.float64)
MOST = 13
PARAMETERS = torch.tensor([[2, 2, 0.5], [1.5, 1, 1], [0.7, 1, 0]], dtype=torch.float64)
INTERVALS = torch.tensor([[3], [7], [16]], dtype=torch.float64)
TABLES = torch.stack([quality_tables(quality) for quality in (5, 30, 80)]).float()
KEYS = torch.tensor([2**63 - 5, 12345678901234, 3])
DRAWS, SIGMAS = torch.tensor([0, 7, 2**32 - 1]), torch.tensor([0.5, 0.0, 2.0], dtype=torch.float64)
CODECS = (
    (3, (24, 40), [2, 2], True),  # MCUs of 16 pixels leave a border
    (3, (32, 16), [1, 2], False),
    (3, (9, 12), [2, 2], False),  # nothing but border
    (1, (17, 26), [1, 1], False),
    (1, (17, 26), [2, 2], True),
)


def rows(tensor: Tensor, count: int) -> Tensor:
    """Those of all images, or the second for all."""
    return tensor.clone() if count == B else tensor[1:2].clone()


def images(*shape: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(B, *shape, generator=generator, dtype=torch.float64) * 0.8).to(dtype)


def leaf(dtype: torch.dtype) -> dict[str, tuple[str, tuple]]:
    made = {}
    for spatial, count in product(SPATIAL, (1, B)):
        at = f"{len(spatial)}d-{count}-{dtype}"
        D, y = images(2, *spatial, dtype=dtype), images(2, *spatial, dtype=dtype, seed=1)
        s = images(2, *spatial, dtype=dtype, seed=2).abs()
        weighted = (rows(ROWS, count), MOST)
        for channels in (1, 2):
            made[f"diagonal_map-{at}-{channels}"] = (
                "diagonal_map",
                (D, y, rows(s, count)[:, :channels].clone(), *weighted),
            )
        made[f"spectral_update-{at}"] = "spectral_update", (D, y, rows(s, count)[:, 0].clone(), *weighted)
        made[f"clip_map-{at}"] = "clip_map", (D, y.clamp(-1, 1), rows(PARAMETERS, count), *weighted)
        made[f"quantization_map-{at}"] = "quantization_map", (D, y, rows(INTERVALS, count), *weighted)
        made[f"add_normal-{at}"] = "add_normal", (D, KEYS, rows(DRAWS, count), rows(SIGMAS, count))
        X = torch.complex(D, y)
        X[0, 0, 0] = 0
        made[f"phase_projection-{at}"] = "phase_projection", (X, s.abs()[..., None].expand(*s.shape, 2).contiguous())
    for (channels, size, subsampling, average), count in product(CODECS, (1, B)):
        D, y = (photo_like(B, (channels, *size), dtype, seed=seed) for seed in (0, 1))
        fixed = (list(MATRICES), subsampling, average)
        arguments = (D, y, rows(TABLES, count), *fixed, rows(ROWS, count), MOST)
        made[f"jpeg_map-{channels}-{size}-{subsampling}-{average}-{count}-{dtype}"] = "jpeg_map", arguments
    return made


def levels(count: int = B) -> Tensor:
    """Rows of ops.step: the weights, then skip, out, keep, noise, scale and draw."""
    around = [[0.6, 0.3, 0.25, 0.4, 0.7, 7], [1, 0.5, 0, 0, 1, 0], [0.9, -0.2, 1, 2, 0.1, 2**32 - 1]]
    made = rows(torch.cat([ROWS, torch.tensor(around, dtype=torch.float64)], 1), count)
    assert made.shape == (count, len(COLUMNS))
    return made


def fused() -> dict[str, tuple[str, tuple]]:
    made = {}
    types = (torch.float32, torch.bfloat16, torch.float16)
    for (index, spatial), count in product(enumerate(SPATIAL), (1, B)):
        last = torch.channels_last if len(spatial) == 2 and count == B else torch.contiguous_format
        x, y = (images(3, *spatial, dtype=torch.float32, seed=seed) for seed in (3, 4))
        F = images(3, *spatial, dtype=torch.float32, seed=5).to(types[index], memory_format=last)
        s = images(3, *spatial, dtype=torch.float32, seed=2).abs()
        numbers = {"given": [], "diagonal_map": [rows(s, count)[:, :1].clone()]}
        numbers |= {"clip_map": [rows(PARAMETERS, count)], "quantization_map": [rows(INTERVALS, count)]}
        if len(spatial) == 2:
            numbers["jpeg_map"] = [rows(TABLES, count)]
        for kind, tensors in numbers.items():
            buffers = (x, torch.full_like(x, float("nan")), torch.full_like(F, float("nan")))
            surroundings = (None if kind == "given" and count == 1 else F, y, KEYS, levels(count), MOST)
            fixed = (list(MATRICES), [2, 2], True)
            made[f"step-{kind}-{len(spatial)}d-{count}"] = "step", (*buffers, *surroundings, kind, tensors, *fixed)
    return made


SAMPLES = leaf(torch.float32) | leaf(torch.float64) | fused()


def copied(arguments: tuple) -> tuple:
    copy = lambda value: value.clone() if isinstance(value, Tensor) else value  # noqa: E731
    return tuple([copy(v) for v in value] if isinstance(value, list) else copy(value) for value in arguments)


def image(arguments: tuple, n: int) -> tuple:
    """The arguments for image n alone."""

    def of(value):
        return value[n : n + 1].clone() if isinstance(value, Tensor) and len(value) == B else value

    return tuple([of(v) for v in value] if isinstance(value, list) else of(value) for value in arguments)


def run(sample: tuple[str, tuple], backend: str, monkeypatch=None) -> list[Tensor]:
    """What an operation returns or overwrites. backend: "cpu", "emulated", "triton", or "form"."""
    name, arguments = sample[0], copied(sample[1])
    operation = ops.REGISTRY[name]
    if backend == "emulated":
        with monkeypatch.context() as patch:
            patch.setattr(native, "launch", emulated)
            result = operation.operator(*arguments)
    else:
        call = {"cpu": operation.operator, "triton": operation.triton, "form": operation.form}[backend]
        result = call(*arguments)
    return [result] if result is not None else list(arguments[: operation.overwrites])


def emulated(kernel: str, like: Tensor, arguments: object) -> None:
    """In place of `native.launch`: the code of the CUDA kernels, thread for thread, on the CPU."""
    getattr(backends.native(), f"emulated_{kernel}")(arguments)


def differing(sample: tuple[str, tuple], got: Tensor, wanted: Tensor) -> int:
    """How many entries differ by more than rounding, beyond those that a rounding boundary may send either way."""
    if got.dtype != wanted.dtype or got.shape != wanted.shape:
        raise AssertionError(f"{got.dtype} {list(got.shape)} instead of {wanted.dtype} {list(wanted.shape)}")
    name, arguments = sample
    exact = wanted.dtype in (torch.float64, torch.complex128) and name != "add_normal"  # float32 inside
    tolerance = 1e-11 if exact else 2e-5
    if wanted.dtype in (torch.bfloat16, torch.float16):
        tolerance, got, wanted = 2 * torch.finfo(wanted.dtype).eps, got.float(), wanted.float()
    error = (got - wanted).abs() / (1 + wanted.abs())
    kind = arguments[8] if name == "step" else name
    allowed = {"jpeg_map": 768, "quantization_map": 3, "clip_map": 3}.get(kind, 0)  # 768: one coefficient of chroma
    return max(0, int((~(error <= tolerance)).sum()) - (0 if exact else allowed))
