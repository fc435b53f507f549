"""What denoisers are given: levels for each image, networks of callers, types, modes of torch, empty batches."""

import copy
import math
import pickle
from types import SimpleNamespace

import pytest
import torch
from conftest import photo_like
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import lmaps_fast as lf
from lmaps_fast.denoisers import EDM, VP, Gaussian, GaussianMixture, Natural, Tiled, on_tiles
from lmaps_fast.denoisers.vp import DiscreteTime

ALPHAS = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
SIGMAS = (0.05, 0.7, 9.0)


class Elementwise(nn.Module):
    """Each entry from itself and its image's condition."""

    def forward(self, x, condition):
        return (x + condition.view(-1, *[1] * (x.dim() - 1)).to(x.dtype)).sin()


class Convolution(nn.Module):
    """With an integer buffer, running statistics, and weights that are not channels_last."""

    def __init__(self, channels=3, kind=nn.Conv2d):
        super().__init__()
        self.conv = kind(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels) if kind is nn.Conv2d else nn.Identity()
        self.register_buffer("count", torch.arange(3))
        torch.manual_seed(0)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.2)

    def forward(self, x, condition):
        return self.norm(self.conv(x)) + condition.view(-1, *[1] * (x.dim() - 1)).to(x.dtype)


class Flat(nn.Module):
    """A network for one channel that ends in a reshape."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x, condition):
        return self.conv(x).flatten(1).reshape(len(x), 1, *x.shape[2:])


class Typed(nn.Module):
    """Elementwise, in a type of its own."""

    def __init__(self, dtype):
        super().__init__()
        self.dtype = dtype

    def forward(self, x, condition):
        return Elementwise()(x, condition).to(self.dtype)


def oracle():
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(2, 12, 12, generator=generator, dtype=torch.float64)
    covariances = 0.1 * factor @ factor.mT + 0.01 * torch.eye(12, dtype=torch.float64)
    return torch.randn(2, 3, 2, 2, generator=generator, dtype=torch.float64), covariances


ELEMENTWISE = {
    "EDM": lambda: EDM(Elementwise()),
    "VP": lambda: VP(Elementwise()),
    "VP discrete": lambda: VP(Elementwise(), "v_prediction", DiscreteTime(ALPHAS)),
    "Tiled": lambda: Tiled(EDM(Elementwise()), 64, 8),
}
BLOCKS = {
    "Natural": lambda: Natural(dtype=torch.float32),
    "Natural on tiles": lambda: on_tiles(Natural(dtype=torch.float32), 64, 8),
}


@pytest.fixture(scope="module")
def natural():
    return Natural(dtype=torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_levels_for_each_image_are_those_of_each_alone_bit_for_bit(name, dtype):
    denoiser, x = ELEMENTWISE[name](), photo_like(3, (3, 16, 72), dtype)
    together = denoiser(x, torch.tensor(SIGMAS, dtype=torch.float64))
    assert denoiser.batched_sigma
    for n, sigma in enumerate(SIGMAS):
        assert torch.equal(together[n : n + 1], denoiser(x[n : n + 1], sigma))
    assert torch.equal(denoiser(x, torch.tensor([0.7])), denoiser(x, torch.tensor([0.7] * 3)))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", BLOCKS)
def test_levels_for_each_image_are_those_of_each_alone(name, channels):
    denoiser, x = BLOCKS[name](), photo_like(3, (channels, 30, 75), torch.float32)
    together = denoiser(x, torch.tensor(SIGMAS, dtype=torch.float64))
    for n, sigma in enumerate(SIGMAS):
        torch.testing.assert_close(together[n : n + 1], denoiser(x[n : n + 1], sigma), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_oracles_take_levels_for_each_image(dtype):
    means, covariances = oracle()
    x = torch.randn(3, 3, 2, 2, generator=torch.Generator().manual_seed(1), dtype=dtype)
    sigma = torch.tensor(SIGMAS, dtype=torch.float64)
    mixture = GaussianMixture(torch.ones(2, dtype=torch.float64), means, covariances)
    for function in (Gaussian(means[0], covariances[0]), mixture, mixture.local_map, mixture.log_density):
        together = function(x, sigma)
        for n, level in enumerate(SIGMAS):
            torch.testing.assert_close(together[n : n + 1], function(x[n : n + 1], level), rtol=1e-6, atol=1e-6)
    assert mixture(x, sigma).dtype == mixture.local_map(x, sigma).dtype == dtype


@pytest.mark.parametrize("make", [EDM, VP])
def test_the_network_of_a_caller_stays_as_it_is(make):
    network = Convolution()
    before = {key: (value.clone(), value.stride(), value.dtype) for key, value in network.state_dict().items()}
    denoiser = make(network, dtype=torch.bfloat16)
    denoiser(torch.randn(2, 3, 8, 8), 0.5)
    assert all(module.training for module in network.modules())
    assert not any(module.training for module in denoiser.network.modules())
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key][0])
        assert (value.stride(), value.dtype) == before[key][1:]
    assert denoiser.network.count.dtype == torch.int64


def test_a_network_that_fits_is_not_copied():
    network = Convolution().to(memory_format=torch.channels_last).eval()
    assert EDM(network).network is network
    assert EDM(network, dtype=torch.float64).network is not network
    half_trained = Convolution().to(memory_format=torch.channels_last).eval()
    half_trained.norm.train()
    assert EDM(half_trained).network is not half_trained
    unet = Convolution().to(memory_format=torch.channels_last).eval()
    scheduler = SimpleNamespace(alphas_cumprod=ALPHAS, config=SimpleNamespace(prediction_type="sample"))
    assert lf.denoisers.from_diffusers(unet, scheduler).network.network is unet


@pytest.mark.parametrize("made", [torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("make", [EDM, VP])
def test_a_result_has_the_type_of_the_image(make, dtype, made):
    x = photo_like(2, (3, 8, 8), torch.float32).to(dtype)
    expected = make(Elementwise(), dtype=torch.float64)(x.double(), 0.5)
    denoised = make(Typed(made))(x, 0.5)
    coarse = torch.bfloat16 in (dtype, made)
    assert denoised.dtype == Tiled(make(Typed(made)), 64)(x, 0.5).dtype == dtype
    torch.testing.assert_close(denoised.double(), expected, rtol=0, atol=0.02 if coarse else 1e-5)


def test_a_tiled_denoiser_gives_the_type_of_the_image():
    for made in (torch.bfloat16, torch.float64):
        for width in (64, 136):
            x = photo_like(1, (3, 64, width), torch.float32)
            denoised = Tiled(lambda x, sigma, made=made: x.to(made), 64)(x, 0.5)
            assert denoised.dtype == torch.float32
            torch.testing.assert_close(denoised, x, rtol=0, atol=0.01)


@pytest.mark.parametrize("shape", [(2, 1, 8, 12), (1, 1, 8, 8), (1, 1, 8, 1), (2, 1, 1, 8)], ids=str)
def test_the_output_of_one_channel_has_the_strides_of_an_empty_tensor(shape):
    denoiser = EDM(Flat())
    canonical = torch.empty(shape, memory_format=torch.channels_last).stride()
    for layout in (torch.contiguous_format, torch.channels_last):
        scaled = torch.randn(shape).to(memory_format=layout)
        F = denoiser.evaluate(scaled, torch.zeros(shape[0]))
        assert F.stride() == canonical
        with torch.no_grad():
            torch.testing.assert_close(F, denoiser.network.conv(scaled))


def test_channels_that_are_left_out_leave_no_gaps():
    class Twice(nn.Module):
        def forward(self, x, condition):
            return torch.cat([x, x], 1).contiguous(memory_format=torch.channels_last)

    F = EDM(Twice()).evaluate(torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last), torch.zeros(2))
    assert F.stride() == torch.empty(2, 3, 8, 8, memory_format=torch.channels_last).stride()


@pytest.mark.parametrize("width", [40, 41])
def test_a_network_of_one_channel_that_ends_in_a_reshape_restores(width):
    operator = lf.operators.create("inpainting_random", (1, 32, width))
    y, denoiser = operator.measure(photo_like(2, operator.shape, torch.float32)), EDM(Flat())
    fused, parts = (lf.restore(y, operator, denoiser, steps=3, backend=backend) for backend in ("cpu", "torch"))
    torch.testing.assert_close(fused, parts, rtol=1e-3, atol=1e-3)


def random_state_stays(make):
    before = torch.get_rng_state()
    make()
    assert torch.equal(torch.get_rng_state(), before)


def test_loading_draws_no_random_numbers(small_adm, tmp_path):
    torch.save(small_adm.state_dict(), tmp_path / "adm.pt")
    random_state_stays(lambda: lf.denoisers.load("natural"))
    random_state_stays(lambda: lf.denoisers.load(tmp_path / "adm.pt"))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("loaded_inside", [False, True])
@pytest.mark.parametrize("mode", ["float64", "autocast", "inference", "meta"])
def test_modes_of_torch_change_nothing(mode, loaded_inside, channels, natural):
    x = photo_like(2, (channels, 24, 19), torch.float32)
    expected = natural(x, 0.3)
    try:
        if mode == "float64":
            torch.set_default_dtype(torch.float64)
        modes = {"autocast": torch.autocast("cpu", torch.bfloat16), "inference": torch.inference_mode()}
        with modes.get(mode, torch.device("meta") if mode == "meta" else torch.no_grad()):
            denoiser = Natural(dtype=torch.float32) if loaded_inside else natural
            assert torch.equal(denoiser(x, 0.3), expected)
    finally:
        torch.set_default_dtype(torch.float32)
    x.requires_grad_()
    assert torch.autograd.grad(denoiser(x, 0.3).sum(), x)[0].isfinite().all()


def test_the_embedded_prior_runs_in_its_type_under_autocast_in_the_fused_step_too(natural):
    network, scaled = natural.preconditioned((3, 16, 16)), photo_like(1, (3, 16, 16), torch.float32)
    expected = network.evaluate(scaled, torch.zeros(1))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(network.evaluate(scaled, torch.zeros(1)), expected)


def test_modes_of_torch_around_a_public_checkpoint(small_adm, tmp_path):
    torch.save(small_adm.state_dict(), tmp_path / "adm.pt")
    x = photo_like(2, (3, 32, 32), torch.float32)
    expected = lf.denoisers.load(tmp_path / "adm.pt", dtype=torch.float32)(x, 0.3)
    try:
        torch.set_default_dtype(torch.float64)
        with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
            denoiser = lf.denoisers.load(tmp_path / "adm.pt", dtype=torch.float32)
            assert torch.equal(denoiser(x, 0.3), expected)
    finally:
        torch.set_default_dtype(torch.float32)
    assert denoiser.recordable
    together = denoiser(x, torch.tensor([0.3, 2.0]))
    torch.testing.assert_close(together[1:], denoiser(x[1:], 2.0), rtol=1e-4, atol=1e-4)


def test_autocast_reaches_the_network_of_a_caller_and_nothing_else():
    seen, denoiser, x = [], EDM(Convolution().eval()), photo_like(1, (3, 8, 8), torch.float32)
    denoiser.network.conv.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    plain = denoiser(x, 0.5)
    with torch.autocast("cpu", torch.bfloat16):
        cast = denoiser(x, 0.5)
    assert seen == [torch.float32, torch.bfloat16]
    assert cast.dtype == torch.float32
    torch.testing.assert_close(cast, plain, rtol=0, atol=0.05)
    means, covariances = oracle()
    gaussian, x = Gaussian(means[0].float(), covariances[0].float()), torch.randn(2, 3, 2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        cast = gaussian(x, 0.5)
    assert torch.equal(cast, gaussian(x, 0.5))


@pytest.mark.parametrize("sigma", [0.5, torch.tensor([0.5])], ids=["float", "tensor"])
def test_no_images_in_none_out(sigma, natural):
    class Proud(nn.Module):
        def forward(self, x, condition):
            return x / x.amax().item()

    for denoiser in (natural, EDM(Proud()), VP(Proud()), Tiled(EDM(Proud()), 64), Tiled(lambda x, s: x.amax(), 64)):
        for shape in ((0, 3, 20, 24), (0, 3, 20, 136)):
            assert denoiser(torch.empty(shape), sigma).shape == shape
    assert natural(torch.empty(0, 1, 20, 24), sigma).shape == (0, 1, 20, 24)


class Operations(TorchDispatchMode):
    """The names of what is called; `lift_fresh` makes a tensor of Python's numbers, from which a GPU's is a copy."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        if function.name() != "aten::lift_fresh" or arguments[0].numel():
            self.names.add(function.name())
        return function(*arguments, **(options or {}))


@pytest.mark.parametrize("name", ["natural", "grey", "tiles", "VP", "VP discrete", "Gaussian", "mixture"])
def test_what_can_be_recorded_reads_and_copies_nothing_on_the_host(name, natural):
    means, covariances = oracle()
    denoiser, shape = {
        "natural": (natural, (2, 3, 24, 19)),
        "grey": (natural, (2, 1, 26, 19)),
        "tiles": (on_tiles(natural, 64, 8), (2, 3, 24, 72)),
        "VP": (VP(Elementwise(), recordable=True), (2, 3, 8, 8)),
        "VP discrete": (VP(Elementwise(), time=DiscreteTime(ALPHAS), recordable=True), (2, 3, 8, 8)),
        "Gaussian": (Gaussian(means[0], covariances[0]), (2, 3, 2, 2)),
        "mixture": (GaussianMixture(torch.ones(2, dtype=torch.float64), means, covariances), (2, 3, 2, 2)),
    }[name]
    assert denoiser.recordable
    for sigma in (0.7, torch.tensor([0.5, 2.0], dtype=torch.float64)):
        with Operations() as seen:
            denoiser(torch.zeros(shape), sigma)
        assert len(seen.names) > 5
        assert not seen.names & {"aten::_local_scalar_dense", "aten::lift_fresh", "aten::nonzero", "aten::is_nonzero"}


def test_networks_of_callers_are_recordable_where_they_say_so():
    assert not EDM(Elementwise()).recordable
    assert not VP(Elementwise()).recordable
    assert EDM(Elementwise(), recordable=True).recordable
    assert Tiled(EDM(Elementwise(), recordable=True), 64).recordable
    assert not Tiled(lambda x, sigma: x, 64).recordable
    assert not Tiled(lambda x, sigma: x, 64).batched_sigma


def test_a_grey_result_does_not_depend_on_calls_before(natural):
    x = photo_like(1, (1, 24, 32), torch.float32)
    first = natural(x, 0.4)
    natural(photo_like(1, (1, 40, 16), torch.float32), 0.4)
    natural(x.double(), 0.4)
    assert torch.equal(natural(x, 0.4), first)


def test_a_compiled_network_works(natural):
    x, network = photo_like(2, (3, 16, 16), torch.float32), Convolution()
    expected = EDM(network)(x, 0.5)
    compiled = EDM(torch.compile(network, backend="eager"))
    torch.testing.assert_close(compiled(x, 0.5), expected)
    assert network.training
    after = copy.copy(natural.denoise)
    after.network = torch.compile(after.network, backend="eager", fullgraph=True)
    sigma = torch.tensor([0.3, 4.0], dtype=torch.float64)
    torch.testing.assert_close(after(x, sigma), natural(x, sigma), rtol=1e-5, atol=1e-5)


def test_a_denoiser_compiles_whole(natural):
    x, sigma = photo_like(2, (3, 16, 16), torch.float32), torch.tensor([0.3, 4.0], dtype=torch.float64)
    compiled = torch.compile(lambda x, sigma: natural(x, sigma), backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x, sigma), natural(x, sigma), rtol=1e-5, atol=1e-5)


def test_copies_and_pickles_denoise_alike(natural):
    x = photo_like(1, (1, 16, 16), torch.float32)
    for twin in (copy.deepcopy(natural), pickle.loads(pickle.dumps(natural))):
        assert torch.equal(twin(x, 0.3), natural(x, 0.3))
    vp = VP(Convolution(), time=DiscreteTime(ALPHAS))
    x = photo_like(1, (3, 16, 16), torch.float32)
    assert torch.equal(pickle.loads(pickle.dumps(vp))(x, 0.3), vp(x, 0.3))


@pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv3d])
def test_images_of_one_and_three_spatial_axes(kind):
    shape = (3, 16) if kind is nn.Conv1d else (3, 6, 7, 8)
    network = Convolution(3, kind)
    denoiser, x = EDM(network), torch.randn(2, *shape)
    total = 0.7**2 + 0.25
    with torch.no_grad():
        F = network(x / math.sqrt(total), torch.full((2,), math.log(0.7) / 4))
    torch.testing.assert_close(denoiser(x, 0.7), 0.25 / total * x + 0.35 / math.sqrt(total) * F, rtol=1e-5, atol=1e-5)
    assert denoiser.preconditioned(shape) is None


def test_a_denoiser_of_deepinv_keeps_type_and_gradient():
    denoiser = lf.denoisers.from_deepinv_denoiser(lambda y, sigma: (3 * y).double())
    x = torch.zeros(1, 3, 4, 4, requires_grad=True)
    assert denoiser(x, 0.1).dtype == torch.float32
    assert torch.equal(torch.autograd.grad(denoiser(x, 0.1).sum(), x)[0], torch.full_like(x, 3))


def test_bad_input_is_named(natural):
    x = torch.zeros(2, 3, 8, 8)
    for denoiser in (natural, EDM(Elementwise()), VP(Elementwise())):
        for sigma in (0.0, -1.0, math.nan, math.inf):
            with pytest.raises(lf.InputError, match="sigma must be positive and finite"):
                denoiser(x, sigma)
        with pytest.raises(lf.InputError, match="3 levels for 2 images: give one, or one for each"):
            denoiser(x, torch.ones(3))
        with pytest.raises(lf.InputError, match=r"a floating type, not torch.uint8"):
            denoiser(x.to(torch.uint8), 0.5)

    class Mean(nn.Module):
        def forward(self, x, condition):
            return x.mean(1, keepdim=True)

    with pytest.raises(lf.InputError, match=r"returns \[2, 1, 8, 8\] for images \[2, 3, 8, 8\]"):
        EDM(Mean())(x, 0.5)
