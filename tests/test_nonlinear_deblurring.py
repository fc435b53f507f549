"""The blur network of BKSE: its public tensors, its graph written a second time, its gradient, files and sizes."""

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import photo_like
from safetensors.torch import save_file

from lmaps_fast.errors import InputError
from lmaps_fast.operators import bkse
from lmaps_fast.operators.nonlinear_deblurring import NonlinearDeblurring

SHAPE = (3, 32, 40)

# name, shape; a bias follows where the third entry says so. Read from the public code: those of GOPRO_wVAE.pth that
# lie between a code and a blurred image.
CONVOLUTIONS = [
    ("feature_extractor.0", (64, 3, 3, 3), True),
    ("feature_extractor.2", (64, 64, 3, 3), True),
    ("feature_extractor.4", (64, 64, 3, 3), True),
    *((f"feature_extractor.{i}.conv{k}", (64, 64, 3, 3), True) for i in range(6, 16) for k in (1, 2)),
    ("adapter.model.down.0", (64, 64, 4, 4), False),
    ("adapter.model.submodule.down.1", (128, 64, 4, 4), False),
    ("adapter.model.submodule.submodule.down.1", (256, 128, 4, 4), False),
    ("adapter.model.submodule.submodule.submodule.down.1", (512, 256, 4, 4), False),
    ("adapter.model.submodule.submodule.submodule.submodule.down.1", (512, 512, 4, 4), False),
    ("adapter.model.submodule.submodule.submodule.submodule.up.1", (1024, 512, 4, 4), False),
    ("adapter.model.submodule.submodule.submodule.up.1", (1024, 256, 4, 4), False),
    ("adapter.model.submodule.submodule.up.1", (512, 128, 4, 4), False),
    ("adapter.model.submodule.up.1", (256, 64, 4, 4), False),
    ("adapter.model.up.1", (128, 64, 4, 4), True),
    *((f"recon_trunk.{i}.conv{k}", (64, 64, 3, 3), True) for i in range(20) for k in (1, 2)),
    ("recon_trunk.20", (256, 64, 3, 3), True),
    ("recon_trunk.23", (256, 64, 3, 3), True),
    ("recon_trunk.26", (64, 64, 3, 3), True),
    ("recon_trunk.28", (3, 64, 3, 3), True),
]


def create(shape=SHAPE, **arguments) -> NonlinearDeblurring:
    with pytest.warns(UserWarning, match="random network"):
        return NonlinearDeblurring(shape, **{"dtype": torch.float64, **arguments})


@pytest.fixture(scope="module")
def operator() -> NonlinearDeblurring:
    return create()


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """The tensors of another random network, with biases that are not zero: what a weights file holds."""
    network = bkse.random(5)
    generator = torch.Generator().manual_seed(6)
    state = {key: value.detach() for key, value in network.state_dict().items()}
    for key, value in state.items():
        if key.endswith("bias"):
            value.normal_(std=0.05, generator=generator)
    return state


def plain_network(state: dict[str, torch.Tensor], x: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
    """F(x, code) for [1, 3, 256, 256] in [0, 1], layer by layer as published."""

    def convolve(h, name, **options):
        return F.conv2d(h, state[f"{name}.weight"], state.get(f"{name}.bias"), padding=1, **options)

    def blocks(h, name, numbers):
        for i in numbers:
            h = h + convolve(F.relu(convolve(h, f"{name}.{i}.conv1")), f"{name}.{i}.conv2")
        return h

    h = F.leaky_relu(convolve(x.contiguous(memory_format=torch.channels_last), "feature_extractor.0"), 0.1)
    h = F.leaky_relu(convolve(h, "feature_extractor.2", stride=2), 0.1)
    h = F.leaky_relu(convolve(h, "feature_extractor.4", stride=2), 0.1)
    h = blocks(h, "feature_extractor", range(6, 16))

    levels = ["adapter.model" + ".submodule" * depth for depth in range(5)]
    skips = [convolve(h, f"{levels[0]}.down.0", stride=2)]
    for level in levels[1:]:
        skips.append(convolve(F.leaky_relu(skips[-1], 0.2), f"{level}.down.1", stride=2))
    assert skips[-1].shape[2:] == code.shape[2:]
    h, beside = skips.pop(), code
    for level in reversed(levels):
        weight, bias = state[f"{level}.up.1.weight"], state.get(f"{level}.up.1.bias")
        h = F.conv_transpose2d(F.relu(torch.cat([h, beside], 1)), weight, bias, stride=2, padding=1)
        beside = skips.pop() if skips else None

    h = blocks(torch.tanh(h), "recon_trunk", range(20))
    h = F.leaky_relu(F.pixel_shuffle(convolve(h, "recon_trunk.20"), 2), 0.1)
    h = F.leaky_relu(F.pixel_shuffle(convolve(h, "recon_trunk.23"), 2), 0.1)
    h = F.leaky_relu(convolve(h, "recon_trunk.26"), 0.1)
    return x + convolve(h, "recon_trunk.28")


def test_tensors_are_those_of_the_public_file(operator):
    expected = {}
    for name, shape, has_bias in CONVOLUTIONS:
        expected[f"{name}.weight"] = shape
        if has_bias:
            expected[f"{name}.bias"] = (shape[1] if ".up." in name else shape[0],)
    assert {key: tuple(value.shape) for key, value in operator.network.module.state_dict().items()} == expected
    assert sum(p.numel() for p in operator.network.module.parameters()) == 23_662_531


def test_network_is_the_published_one_at_256(state, tmp_path):
    torch.save(state, tmp_path / "weights.pth")
    operator = NonlinearDeblurring((3, 256, 256), weights=tmp_path / "weights.pth")
    code = torch.from_numpy(np.random.RandomState(0).randn(1, 512, 2, 2) * 1.2).float()
    x = photo_like(1, (3, 256, 256), torch.float32)
    expected = (2 * plain_network(state, (x + 1) / 2, code) - 1).clamp(-1, 1)
    assert (expected - x).abs().mean() > 0.02
    torch.testing.assert_close(operator(x), expected, rtol=0, atol=2e-5)
    operator.code_term.zero_()
    assert (operator(x) - expected).abs().max() > 1e-3  # the code has its part in it


def test_range_and_shape(operator):
    x = 2 * photo_like(2, SHAPE, torch.float64)
    y = operator(x)
    assert y.shape == x.shape
    assert y.min() == -1
    assert y.max() == 1
    assert (y - x.clamp(-1, 1)).abs().mean() < 0.3  # still that picture


def test_gradient_is_that_of_the_misfit(operator):
    x = photo_like(1, SHAPE, torch.float64)
    y = photo_like(1, SHAPE, torch.float64, seed=1)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def misfit(step: float) -> torch.Tensor:
        return 0.5 * (operator(x + step * direction) - y).square().sum()

    with torch.no_grad():
        gradient = operator.gradient(x, y)
        difference = (misfit(1e-7) - misfit(-1e-7)) / 2e-7
    assert not gradient.requires_grad
    torch.testing.assert_close((gradient * direction).sum(), difference, rtol=1e-5, atol=0)
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(0.5 * (operator(leaf) - y).square().sum(), leaf)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-12)


def test_images_do_not_depend_on_their_batch(operator):
    x = photo_like(2, SHAPE, torch.float64)
    y = photo_like(2, SHAPE, torch.float64, seed=1)
    torch.testing.assert_close(operator(x)[1:2], operator(x[1:2]), rtol=0, atol=1e-13)
    torch.testing.assert_close(operator.gradient(x, y)[1:2], operator.gradient(x[1:2], y[1:2]), rtol=0, atol=1e-13)


def test_random_network_is_fixed_by_its_seed_and_draws_nothing_else(operator):
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    again, other = create(), create(seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    x = photo_like(1, SHAPE, torch.float64)
    assert torch.equal(operator(x), again(x))
    assert not torch.allclose(operator(x), other(x), atol=1e-3)


def test_random_network_is_told_once():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(2):
            NonlinearDeblurring((3, 16, 16))
    assert [w.category for w in caught] == [UserWarning]


@pytest.mark.parametrize("shape", [(3, 70, 83), (3, 5, 129), (1, 30, 17)])
def test_any_size(shape):
    operator = create(shape)
    x, y = photo_like(1, shape, torch.float64), photo_like(1, shape, torch.float64, seed=1)
    assert operator(x).shape == x.shape
    gradient = operator.gradient(x, y)
    assert gradient.shape == x.shape
    assert (gradient.abs().amin(1) > 0).double().mean() > 0.9  # clamped pixels aside, all are seen, at borders too


@pytest.mark.parametrize("shape", [(2, 32, 32), (3, 4, 32)])
def test_shapes_that_the_network_cannot_take_are_refused(shape):
    with pytest.raises(InputError, match="1 or 3 channels and at least 5x5 pixels"):
        NonlinearDeblurring(shape)


def test_reflections_go_on_where_one_is_too_short():
    x = torch.tensor([0.0, 1.0, 2.0]).view(1, 1, 1, 3).expand(1, 1, 3, 3)
    expected = torch.tensor([0.0, 1.0, 2.0, 1.0, 0.0, 1.0, 2.0, 1.0])
    padded = bkse.reflect_to(x, 8)
    assert torch.equal(padded, expected.expand(1, 1, 8, 8))
    assert torch.equal(bkse.reflect_to(padded, 8), padded)


def test_grey_is_the_mean_of_three_equal_channels(operator):
    x = photo_like(2, (1, *SHAPE[1:]), torch.float64)
    expected = operator(x.expand(-1, 3, -1, -1)).mean(1, keepdim=True)
    torch.testing.assert_close(create((1, *SHAPE[1:]))(x), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("prefix", ["", "module.", "module.netG."])
def test_files_of_other_tools_load(state, tmp_path, prefix):
    path = tmp_path / "weights.pth"
    content = {prefix + key: value for key, value in state.items()} | {"kernel_extractor.model.1.weight": torch.ones(2)}
    torch.save({"state_dict": content, "epoch": 3} if prefix else content, path)
    loaded = bkse.load(path).state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_safetensors_load(state, tmp_path):
    save_file(state, tmp_path / "weights.safetensors")
    loaded = bkse.load(str(tmp_path / "weights.safetensors")).state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_files_that_cannot_be_used_are_refused(state, tmp_path):
    path = tmp_path / "weights.pth"
    with pytest.raises(InputError, match="no such weights file"):
        bkse.load(path)
    for name in ("weights.pth", "weights.safetensors"):
        (tmp_path / name).write_bytes(b"not weights")
        with pytest.raises(InputError, match="not a weights file"):
            bkse.load(tmp_path / name)
    torch.save([1, 2], path)
    with pytest.raises(InputError, match="no table"):
        bkse.load(path)
    few = {"feature_extractor.0.weight": state["feature_extractor.0.weight"][:, :1], "feature_extractor.0.bias": 1}
    torch.save(few, path)
    with pytest.raises(
        InputError, match=r"144 missing, such as feature_extractor\.0\.bias and 1 of another shape"
    ) as error:
        NonlinearDeblurring(SHAPE, weights=path)
    assert "feature_extractor.0.weight is [64, 1, 3, 3] instead of [64, 3, 3, 3]" in str(error.value)


def test_a_weights_file_that_runs_code_is_refused(tmp_path):
    torch.save({"feature_extractor.0.weight": print}, tmp_path / "weights.pth")
    with pytest.raises(InputError, match="UnpicklingError"):
        bkse.load(tmp_path / "weights.pth")
