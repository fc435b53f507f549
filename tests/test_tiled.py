"""Tiled denoisers: exact where the overlap covers what a cut reaches, invisible in restorations elsewhere."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import photo_like

import lmaps_fast as lf
from lmaps_fast.denoisers import Natural, Tiled, on_tiles
from lmaps_fast.errors import InputError
from lmaps_fast.files import image
from lmaps_fast.metrics import psnr

PHOTOGRAPH = Path(__file__).parents[1] / "examples" / "astronaut.png"


class Blur:
    """The mean over 41x41 pixels, zero outside of the image: a cut reaches 20 pixels. Keeps the shapes it is given."""

    preset = "natural"

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, x, sigma):
        self.shapes.append(tuple(x.shape))
        return F.avg_pool2d(x, 41, stride=1, padding=20) + sigma


@pytest.fixture(scope="module")
def natural():
    return Natural(dtype=torch.float32)


def photograph(channels, height, width):
    pixels = image.read(PHOTOGRAPH).pixels[..., :height, 40 : 40 + width]
    return pixels if channels == 3 else pixels.mean(1, keepdim=True)


@pytest.mark.parametrize("size", [(96, 304), (304, 96), (200, 256), (128, 136), (64, 1000)])
@pytest.mark.parametrize("batch", [1, 3])
def test_tiles_equal_the_whole_image_where_the_overlap_covers_the_reach(size, batch):
    x, blur = photo_like(batch, (3, *size), torch.float64), Blur()
    tiled = Tiled(blur, tile=128, overlap=48)(x, 0.5)
    assert len(blur.shapes) > batch
    assert len(set(blur.shapes)) == 1
    assert max(blur.shapes[0][2:]) <= 128
    assert torch.allclose(tiled, blur(x, 0.5), rtol=0, atol=1e-12)


def test_an_overlap_below_the_reach_shows():
    x = photo_like(1, (1, 64, 304), torch.float64)
    assert (Tiled(Blur(), tile=128, overlap=32)(x, 0.5) - Blur()(x, 0.5)).abs().max() > 1e-3


@pytest.mark.parametrize("size", [(97, 301), (263, 70), (129, 131)])
@pytest.mark.parametrize("overlap", [0, 8, 56])
def test_weights_sum_to_one_for_every_size_and_overlap(size, overlap):
    x = photo_like(2, (3, *size), torch.float64)
    assert torch.allclose(Tiled(lambda x, sigma: x, 128, overlap)(x, 1.0), x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [129, 200, 208, 209, 1000, 4001])
def test_tiles_are_aligned_and_overlap_enough(size):
    tiles = Tiled(Blur(), 128, 48)._intervals(-(-size // 8) * 8, torch.device("cpu"))
    assert tiles[0][0] == 0
    assert size <= tiles[-1][1] < size + 8
    assert len(tiles) == -(-(-(-size // 8) * 8 - 48) // 80)
    assert all(start % 8 == 0 and end - start <= 128 for start, end, _ in tiles)
    assert all(end - start >= 48 for (_, end, _), (start, _, _) in pairwise(tiles))


def test_an_image_within_one_tile_is_passed_on():
    x, blur = photo_like(2, (3, 61, 127), torch.float64), Blur()
    assert torch.equal(Tiled(blur, tile=128)(x, 0.5), Blur()(x, 0.5))
    assert blur.shapes == [(2, 3, 61, 127)]


@pytest.mark.parametrize("size", [(32, 400), (400, 32), (24, 499)])
def test_the_default_overlap_is_exact_for_the_embedded_prior(size):
    """At a high noise level, where the network looks farthest; 499 is no multiple of 8."""
    prior = Natural(dtype=torch.float64)
    x = 10 * torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.allclose(on_tiles(prior, 392)(x, 10.0), prior(x, 10.0), rtol=0, atol=1e-12)


@pytest.mark.parametrize("channels", [1, 3])
def test_tiles_of_256_equal_the_whole_photograph_to_rounding(natural, channels):
    x = F.interpolate(photograph(channels, 256, 216), (400, 264), mode="bicubic")
    x = x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    # Rounding, magnified by the network, comes to 1.3e-5 in single pixels.
    assert torch.allclose(on_tiles(natural, 256)(x, 0.1), natural(x, 0.1), rtol=0, atol=3e-5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("task", ["gaussian_deblurring", "inpainting_random"])
def test_seams_do_not_show_in_a_restoration(natural, task, channels):
    x = photograph(channels, 160, 189)
    operator = lf.operators.create(task, x.shape[1:])
    y = operator.measure(x)
    whole = lf.restore(y, operator, natural, steps=6)
    tiled = lf.restore(y, operator, natural, steps=6, tile=128)
    assert not torch.equal(whole, tiled)
    assert abs(psnr(tiled, x) - psnr(whole, x)) < 0.05
    assert psnr(tiled, whole) > 55


def test_the_restorer_tiles_what_does_not_fit():
    small, large = ((3, side, side) for side in (3072, 3080))
    blur = Blur()

    def denoiser(shape, **options):
        return lf.Restorer(lf.operators.create("denoising", shape), blur, **options).denoiser

    assert denoiser(small) is blur
    assert denoiser(large, tile=0) is blur
    assert denoiser(large).tile == 1024
    assert denoiser(small, tile=512).tile == 512
    with pytest.raises(InputError, match="tile must be"):
        denoiser(small, tile=100)


def test_the_preset_of_the_wrapped_denoiser_is_visible():
    operator = lf.operators.create("denoising", (3, 64, 96))
    assert Tiled(Blur(), 64).preset == on_tiles(Natural(), 64).preset == "natural"
    assert lf.Restorer(operator, Blur(), tile=64).settings == [lf.operators.preset("denoising", "natural")]
    assert not hasattr(Tiled(lambda x, sigma: x, 64), "preset")
    assert lf.Restorer(operator, lambda x, sigma: x, tile=64).settings == [lf.operators.preset("denoising", "paper")]


@pytest.mark.parametrize(
    ("tile", "overlap", "message"),
    [
        (56, None, "tile must be a multiple of 8 and at least 64, not 56"),
        (100, None, "tile must be"),
        (-1024, None, "tile must be"),
        (128, 64, "less than half the tile of 128, not 64"),
        (128, 20, "overlap must be a multiple of 8"),
        (128, -8, "overlap must be"),
    ],
)
def test_bad_tiles_and_overlaps_are_refused(tile, overlap, message):
    with pytest.raises(InputError, match=message):
        Tiled(Blur(), tile, overlap)


def test_a_gradient_goes_through_tiles():
    x = torch.randn(2, 3, 64, 136, dtype=torch.float64, requires_grad=True)
    tiled = Tiled(lambda x, sigma: 3 * x, tile=64)
    (gradient,) = torch.autograd.grad(tiled(x, 1.0).sum(), x)
    torch.testing.assert_close(gradient, torch.full_like(gradient, 3.0))
