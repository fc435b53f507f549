"""lmaps_fast._C by itself: structs with named fields, one row of numbers per image, and what it refuses."""

import pytest
import torch
from torch import Tensor

from lmaps_fast.ops import backends

_C = backends.native()

POINTWISE = [name for name in _C.Pointwise.__members__ if name != "jpeg_map"]
STEPS = [name for name in _C.Pointwise.__members__ if name not in ("spectral_update", "phase_projection")]
STRUCTS = {
    "pointwise": "PointwiseArguments",
    "jpeg_map": "JpegArguments",
    "add_normal": "NormalArguments",
    "step": "StepArguments",
}
OUTPUTS = ("out", "x", "x0", "network_input")
MATRICES = [0.299, 0.587, 0.114, -0.1687, -0.3313, 0.5, 0.5, -0.4187, -0.0813]
MATRICES += torch.linalg.inv(torch.tensor(MATRICES, dtype=torch.float64).reshape(3, 3)).flatten().tolist()
NETWORK_TYPES = (torch.float32, torch.bfloat16, torch.float16)


def run(device, kernel, fields):
    """Call _C.<device>_<kernel> with these fields, tensors as their addresses; what it wrote."""
    values = {name: value.data_ptr() if isinstance(value, Tensor) else value for name, value in fields.items()}
    arguments = getattr(_C, STRUCTS[kernel])(**values)
    getattr(_C, f"{device}_{kernel}")(arguments, *((2,) if device == "cpu" else ()))
    return {name: fields[name] for name in OUTPUTS if isinstance(fields.get(name), Tensor)}


def copied(fields):
    return {name: value.clone() if isinstance(value, Tensor) else value for name, value in fields.items()}


def alone(fields, n):
    """The same call for image n alone."""
    one = {name: value[n : n + 1].clone() if isinstance(value, Tensor) else value for name, value in fields.items()}
    counts = [name for name in fields if name in ("images", "batch", "s_images") or name.endswith("_rows")]
    return one | {name: 1 for name in counts if name != "s_rows"}


def random(generator, *shape, dtype=torch.float32, low=-1.2, high=1.2):
    return (torch.rand(*shape, generator=generator, dtype=torch.float64) * (high - low) + low).to(dtype)


def unwritten(*shape, dtype=torch.float32):
    return torch.full(shape, float("nan"), dtype=dtype)


def weights(generator, images):
    """lam, c, lr, K: other numbers in each row, K from 1 step on."""
    lam, c = random(generator, images, low=0.05, high=0.9), random(generator, images, low=0.5, high=20)
    steps = torch.randint(2, 60, (images,), generator=generator)
    steps[0] = 1
    return torch.stack([lam, c, 0.2 / (lam + c), steps], 1).double()


def codec(channels, subsampling=(2, 2)):
    sub_h, sub_w = subsampling
    return _C.JpegCodec(channels=channels, sub_h=sub_h, sub_w=sub_w, average=True, matrices=MATRICES)


def tables(generator, images):
    return torch.randint(2, 60, (images, 2, 64), generator=generator).float()


def parameters(generator, images):
    """More of them than any kernel takes."""
    return random(generator, images, 5, dtype=torch.float64, low=0.5, high=3)


def pointwise(generator, kind, shape=(3, 2, 5 * 4096 + 6), dtype=torch.float32):
    images, rows, pixels = shape
    return {
        "name": getattr(_C.Pointwise, kind),
        "out": unwritten(*shape, dtype=dtype),
        "D": random(generator, *shape, dtype=dtype),
        "y": random(generator, *shape, dtype=dtype),
        "s": random(generator, *shape, dtype=dtype, low=0),
        **{"images": images, "rows_per_image": rows, "pixels": pixels, "s_images": images, "s_rows": rows},
        "is_double": dtype == torch.float64,
        **{"weights": weights(generator, images), "weight_rows": images},
        **{"parameters": parameters(generator, images), "parameter_rows": images, "parameter_count": 5},
    }


def jpeg_map(generator, shape=(3, 3, 37, 53), dtype=torch.float32, subsampling=(2, 2)):
    images, channels, height, width = shape
    return {
        "out": unwritten(*shape, dtype=dtype),
        "D": random(generator, *shape, dtype=dtype),
        "y": random(generator, *shape, dtype=dtype),
        **{"batch": images, "height": height, "width": width, "is_double": dtype == torch.float64},
        **{"weights": weights(generator, images), "weight_rows": images},
        **{"tables": tables(generator, images), "table_rows": images, "codec": codec(channels, subsampling)},
    }


def add_normal(generator, shape=(3, 1001), dtype=torch.float32):
    images, pixels = shape
    return {
        **{"out": unwritten(*shape, dtype=dtype), "x": random(generator, *shape, dtype=dtype)},
        **{"keys": torch.tensor([2**63 - 1, 12345, 0]), "images": images, "pixels": pixels},
        **{"draws": torch.tensor([0, 7, 2**32 - 1]), "draw_rows": images},
        **{"sigmas": random(generator, images, dtype=torch.float64, low=0), "sigma_rows": images},
        "is_double": dtype == torch.float64,
    }


def step(generator, kind, shape=(3, 3, 37, 53), network_type=torch.float32, layout=torch.contiguous_format):
    images, channels, height, width = shape
    surroundings = random(generator, images, 6, dtype=torch.float64, low=0.1)  # skip, out, keep, noise, scale, draw
    surroundings[0, 3], surroundings[:, 5] = 0, torch.tensor([0, 7, 2**32 - 1])
    return {
        "name": getattr(_C.Pointwise, kind),
        **{"x": random(generator, *shape), "x0": unwritten(*shape)},
        "network_input": unwritten(*shape).to(network_type, memory_format=layout),
        "F": random(generator, *shape).to(network_type, memory_format=layout),
        **{"y": random(generator, *shape), "s": random(generator, *shape, low=0)},
        "keys": torch.tensor([1, 2**62 + 5, -3]),
        **{"batch": images, "channels": channels, "height": height, "width": width},
        **{"s_images": images, "s_channels": channels, "network_type": NETWORK_TYPES.index(network_type)},
        "channels_last": layout == torch.channels_last,
        **{"levels": torch.cat([weights(generator, images), surroundings], 1), "level_rows": images},
        **{"parameters": parameters(generator, images), "parameter_rows": images, "parameter_count": 5},
        **{"tables": tables(generator, images), "table_rows": images, "codec": codec(channels)},
    }


def calls(generator):
    """{name: (kernel, fields)}: every kernel and kind, on sizes that nothing divides."""
    both = {"f32": torch.float32, "f64": torch.float64}
    made = {f"add_normal-{name}": ("add_normal", add_normal(generator, dtype=dtype)) for name, dtype in both.items()}
    for name, dtype in both.items():
        for kind in POINTWISE:
            made[f"{kind}-{name}"] = "pointwise", pointwise(generator, kind, dtype=dtype)
        for shape, subsampling in (((3, 3, 37, 53), (1, 2)), ((3, 3, 37, 53), (2, 2)), ((3, 1, 17, 90), (1, 1))):
            fields = jpeg_map(generator, shape, dtype, subsampling)
            made[f"jpeg_map-{name}-{shape[1]}-{subsampling}"] = "jpeg_map", fields
    for kind in STEPS:
        for network_type in NETWORK_TYPES:
            for layout in (torch.contiguous_format, torch.channels_last):
                fields = step(generator, kind, network_type=network_type, layout=layout)
                made[f"step-{kind}-{network_type}-{layout}"] = "step", fields
    return made


CALLS = calls(torch.Generator().manual_seed(0))


@pytest.mark.parametrize("device", ["cpu", "emulated"])
@pytest.mark.parametrize("call", CALLS)
def test_an_image_in_a_batch_is_what_it_is_alone(call, device):
    kernel, fields = CALLS[call]
    together = run(device, kernel, copied(fields))
    for n in range(3):
        for name, tensor in run(device, kernel, alone(fields, n)).items():
            assert tensor.isfinite().all(), name
            assert torch.equal(tensor, together[name][n : n + 1]), (name, n)


@pytest.mark.parametrize("call", CALLS)
def test_emulated_kernels_agree_with_those_of_the_cpu(call):
    kernel, fields = CALLS[call]
    wanted, got = run("cpu", kernel, copied(fields)), run("emulated", kernel, copied(fields))
    for name, tensor in wanted.items():
        numbers = torch.float32 if kernel == "add_normal" else fields["y"].dtype  # normal numbers are float32 inside
        eps = max(torch.finfo(dtype).eps for dtype in (tensor.dtype, numbers))
        differing = (got[name].double() - tensor.double()).abs() > 1e3 * eps * (1 + tensor.double().abs())
        rounds = "jpeg" in call or "quantization" in call  # what falls on a rounding boundary goes either way
        assert differing.sum() <= (3 * 768 if rounds and eps > 1e-10 else 0), name


@pytest.mark.parametrize("device", ["cpu", "emulated"])
@pytest.mark.parametrize("kind", ["diagonal_map", "spectral_update"])
def test_rows_of_s(kind, device, generator):
    fields = pointwise(generator, kind, (3, 2, 300))
    for images, rows in ((1, 1), (1, 2), (3, 1), (3, 2)):
        s = random(generator, images, rows, 300, low=0)
        shared = run(device, "pointwise", copied(fields) | {"s": s, "s_images": images, "s_rows": rows})
        full = run(device, "pointwise", copied(fields) | {"s": s.expand(3, 2, 300).contiguous()})
        assert torch.equal(shared["out"], full["out"])


@pytest.mark.parametrize("device", ["cpu", "emulated"])
def test_rows_of_s_in_a_step(device, generator):
    fields = step(generator, "diagonal_map")
    for images, channels in ((1, 1), (1, 3), (3, 1), (3, 3)):
        s = random(generator, images, channels, 37, 53, low=0)
        shared = run(device, "step", copied(fields) | {"s": s, "s_images": images, "s_channels": channels})
        full = run(device, "step", copied(fields) | {"s": s.expand(3, 3, 37, 53).contiguous()})
        assert all(torch.equal(shared[name], full[name]) for name in shared)


@pytest.mark.parametrize("call", CALLS)
def test_one_row_stands_for_all_images(call):
    kernel, fields = CALLS[call]
    names = {"weights": "weight_rows", "parameters": "parameter_rows", "tables": "table_rows", "levels": "level_rows"}
    names |= {"draws": "draw_rows", "sigmas": "sigma_rows"}
    held = {name: rows for name, rows in names.items() if name in fields}
    one = {name: fields[name][1:2].clone() for name in held} | dict.fromkeys(held.values(), 1)
    all_rows = {name: fields[name][[1, 1, 1]] for name in held}
    shared, repeated = (run("cpu", kernel, copied(fields) | change) for change in (one, all_rows))
    assert all(torch.equal(shared[name], repeated[name]) for name in shared)


@pytest.mark.parametrize("device", ["cpu", "emulated"])
@pytest.mark.parametrize("kind", STEPS)
def test_a_row_without_noise_leaves_its_key_alone(kind, device, generator):
    fields = step(generator, kind)
    first = run(device, "step", copied(fields))["x"]
    second = run(device, "step", copied(fields) | {"keys": fields["keys"] + 1})["x"]
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[1], second[1])


def test_without_F_the_denoiser_is_skip_x(generator):
    fields = step(generator, "diagonal_map")
    with_zeros = run("cpu", "step", copied(fields) | {"F": torch.zeros_like(fields["F"])})
    without = run("cpu", "step", copied(fields) | {"F": 0})
    assert all(torch.equal(with_zeros[name], without[name]) for name in without)


@pytest.mark.parametrize("struct", [*STRUCTS.values(), "JpegCodec"])
def test_fields_have_names(struct):
    with pytest.raises(TypeError, match=f"{struct} has no field colour"):
        getattr(_C, struct)(colour=3)
    with pytest.raises(TypeError, match="incompatible constructor arguments"):
        getattr(_C, struct)(3)


def test_a_field_of_another_type_is_named():
    with pytest.raises(TypeError, match=r"PointwiseArguments cannot take 1\.5 for out"):
        _C.PointwiseArguments(out=1.5)
    with pytest.raises(ValueError, match=r"network_type is 0 \(float32\), 1 \(bfloat16\) or 2"):
        _C.StepArguments(network_type=3)
    with pytest.raises(ValueError, match="matrices of a JpegCodec are 18 numbers"):
        _C.JpegCodec(channels=3, sub_h=1, sub_w=1, matrices=[1.0])
    with pytest.raises(ValueError, match="JpegCodec needs channels of 1 or 3"):
        _C.JpegCodec(channels=2, sub_h=1, sub_w=1)


def fields_of(kernel, kind, generator):
    make = {"pointwise": pointwise, "step": step, "jpeg_map": jpeg_map, "add_normal": add_normal}[kernel]
    return make(generator, *((kind,) if kind else ()))


@pytest.mark.parametrize(
    ("kernel", "kind", "needed"),
    [
        ("pointwise", "diagonal_map", "out D y s weights"),
        ("pointwise", "spectral_update", "s weights"),
        ("pointwise", "clip_map", "parameters weights"),
        ("pointwise", "quantization_map", "parameters weights"),
        ("pointwise", "phase_projection", "out D y"),
        ("jpeg_map", "", "out D y weights tables"),
        ("add_normal", "", "out x keys draws sigmas"),
        ("step", "given", "x x0 network_input y keys levels"),
        ("step", "diagonal_map", "s"),
        ("step", "clip_map", "parameters"),
        ("step", "quantization_map", "parameters"),
        ("step", "jpeg_map", "tables"),
    ],
)
def test_null_addresses_are_refused(kernel, kind, needed, generator):
    fields = fields_of(kernel, kind, generator)
    for name in needed.split():
        with pytest.raises(ValueError, match=rf"^[\w ]+ needs {name}, whose address is 0$"):
            run("cpu", kernel, fields | {name: 0})


@pytest.mark.parametrize(
    ("kernel", "kind", "change", "sentence"),
    [
        ("pointwise", "clip_map", {"weight_rows": 2}, "clip_map needs weight_rows of 1 or 3, not 2"),
        ("pointwise", "clip_map", {"parameter_rows": 0}, "clip_map needs parameter_rows of 1 or 3, not 0"),
        ("pointwise", "clip_map", {"parameter_count": 2}, "clip_map needs parameter_count of 3, not 2"),
        ("pointwise", "diagonal_map", {"s_images": 4}, "diagonal_map needs s_images of 1 or 3, not 4"),
        ("pointwise", "diagonal_map", {"s_rows": 3}, "diagonal_map needs s_rows of 1 or 2, not 3"),
        ("pointwise", "phase_projection", {"pixels": 7}, "phase_projection needs pixels in groups of 2"),
        ("pointwise", "clip_map", {"name": _C.Pointwise.jpeg_map}, "jpeg_map is not pointwise"),
        ("jpeg_map", "", {"table_rows": 2}, "jpeg_map needs table_rows of 1 or 3, not 2"),
        ("jpeg_map", "", {"codec": None}, "jpeg_map needs a codec"),
        ("add_normal", "", {"draw_rows": 2}, "add_normal needs draw_rows of 1 or 3, not 2"),
        ("step", "given", {"level_rows": 2}, "step with given needs level_rows of 1 or 3, not 2"),
        ("step", "diagonal_map", {"s_channels": 2}, "step with diagonal_map needs s_channels of 1 or 3, not 2"),
        ("step", "jpeg_map", {"codec": None}, "step with jpeg_map needs a codec of as many channels as x"),
        ("step", "jpeg_map", {"codec": codec(1)}, "step with jpeg_map needs a codec of as many channels as x"),
        ("step", "spectral_update", {}, "step with spectral_update is no kernel: its result is not a local MAP"),
        ("step", "phase_projection", {}, "step with phase_projection is no kernel: its result is not a local MAP"),
    ],
)
def test_tables_that_do_not_fit_are_refused(kernel, kind, change, sentence, generator):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        run("cpu", kernel, fields_of(kernel, kind, generator) | change)


@pytest.mark.parametrize("device", ["cpu", "emulated"])
@pytest.mark.parametrize(
    ("kernel", "sizes"),
    [
        ("pointwise", "images rows_per_image pixels"),
        ("jpeg_map", "batch height width"),
        ("add_normal", "images pixels"),
        ("step", "batch channels height width"),
    ],
)
def test_empty_sizes_return_at_once(kernel, sizes, device):
    for empty in sizes.split():
        run(device, kernel, {name: int(name != empty) for name in sizes.split()})
