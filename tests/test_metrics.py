"""Image metrics: SSIM against its formula written out, LPIPS as far as it goes without its weights, and errors."""

import hashlib
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import photo_like
from torch import nn

import lmaps_fast as lf
from lmaps_fast import metrics


def ssim_by_its_formula(x, y):
    """The definition, window by window, in NumPy: x and y are [C, H, W] in [-1, 1]."""
    axis = np.arange(11) - 5
    window = np.exp(-(axis[:, None] ** 2 + axis**2) / (2 * 1.5**2))
    window /= window.sum()

    def mean(image):
        return np.einsum("chwij,ij->chw", np.lib.stride_tricks.sliding_window_view(image, (11, 11), (1, 2)), window)

    a, b = (np.clip(image.numpy() / 2 + 0.5, 0, 1) for image in (x, y))
    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    top, bottom = (2 * ma * mb + 1e-4) * (2 * cov + 9e-4), (ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4)
    return (top / bottom).mean()


def noisy(x, std, generator):
    return x + std * torch.randn(x.shape, generator=generator, dtype=x.dtype)


@pytest.mark.parametrize("shape", [(1, 11, 11), (3, 37, 53), (2, 12, 40)])
def test_ssim_is_its_formula(shape, generator):
    x = photo_like(2, shape, torch.float64)
    y = noisy(x, 0.3, generator)  # leaves [-1, 1], so clipping shows
    exact = [ssim_by_its_formula(a, b) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(metrics.ssim(x, y), exact, rtol=1e-10)
    assert metrics.ssim(x.float(), y.float()).dtype == torch.float32
    np.testing.assert_allclose(metrics.ssim(x.float(), y.float()), exact, rtol=1e-5)


def test_ssim_is_one_for_equal_images_symmetric_and_falls_with_noise(generator):
    x = photo_like(2, (3, 40, 44), torch.float64)
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    values = torch.stack([metrics.ssim(x + std * noise, x) for std in (0, 0.01, 0.1, 0.5)])
    torch.testing.assert_close(values[0], torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-12)
    assert (values.diff(dim=0) < 0).all()
    torch.testing.assert_close(metrics.ssim(x, x + 0.1 * noise), values[2], rtol=1e-12, atol=0)


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.ssim])
def test_a_batch_equals_its_images(metric, generator):
    x = photo_like(3, (3, 20, 24), torch.float64)
    y = noisy(x, 0.2, generator)
    batch = metric(y, x)
    assert batch.shape == (3,)
    assert len(set(batch.tolist())) == 3
    torch.testing.assert_close(batch, torch.cat([metric(y[i : i + 1], x[i : i + 1]) for i in range(3)]))


@pytest.mark.parametrize(("metric", "least"), [(metrics.ssim, 11), (metrics.lpips, 32)])
def test_shapes_that_cannot_be_compared(metric, least):
    x = torch.zeros(1, 3, 40, 48)
    with pytest.raises(lf.InputError, match="one shape"):
        metric(x, x[:, :1])
    with pytest.raises(lf.InputError, match="one shape"):
        metric(x[0], x[0])
    for small in (x[..., : least - 1], x[:, :, : least - 1]):
        with pytest.raises(lf.InputError, match=f"at least {least}x{least}"):
            metric(small, small)


def test_ssim_without_scikit_image_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.metrics", None)
    with pytest.raises(lf.InputError, match=r"pip install 'lmaps_fast\[metrics\]'"):
        metrics.ssim(torch.zeros(1, 1, 11, 11), torch.zeros(1, 1, 11, 11))


@pytest.fixture
def checkpoints(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    metrics._lpips_metric.cache_clear()
    yield folder
    metrics._lpips_metric.cache_clear()


IMAGE = torch.linspace(-1, 1, 3 * 32 * 32).view(1, 3, 32, 32)


@pytest.mark.parametrize("variant", metrics.LPIPS_VARIANTS)
def test_lpips_without_its_weights_names_file_and_address(variant, checkpoints):
    weights = metrics.LPIPS_VARIANTS[variant].weights
    with pytest.raises(lf.InputError) as missing:
        metrics.lpips(IMAGE, IMAGE, variant)
    assert str(checkpoints / weights) in str(missing.value)
    assert f"https://download.pytorch.org/models/{weights}" in str(missing.value)
    (checkpoints / weights).write_bytes(b"cut short")
    with pytest.raises(lf.InputError, match="damaged"):
        metrics.lpips(IMAGE, IMAGE, variant)


def test_lpips_refuses_unknown_variants_and_channels():
    with pytest.raises(lf.InputError, match="choose one of alex, squeeze, vgg, vgg_average"):
        metrics.lpips(IMAGE, IMAGE, "resnet")
    with pytest.raises(lf.InputError, match="1 or 3 channels"):
        metrics.lpips(IMAGE[:, :2], IMAGE[:, :2])


@pytest.fixture
def accepted_weights(checkpoints, monkeypatch):
    """A stand-in for the weights file, under a name that its checksum agrees with."""
    name = f"vgg16-{hashlib.sha256(b'weights').hexdigest()[:8]}.pth"
    (checkpoints / name).write_bytes(b"weights")
    for key in ("vgg", "vgg_average"):
        monkeypatch.setitem(metrics.LPIPS_VARIANTS, key, metrics.LPIPS_VARIANTS[key]._replace(weights=name))


@pytest.mark.parametrize("package", ["torchvision", "torchmetrics.image.lpip"])
def test_lpips_without_its_packages_names_the_command(package, accepted_weights, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace())
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(lf.InputError, match=r"pip install 'lmaps_fast\[lpips\]'"):
        metrics.lpips(IMAGE, IMAGE, "vgg")


def test_lpips_with_a_torchvision_of_another_torch_names_the_torch(accepted_weights, monkeypatch, tmp_path):
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    with pytest.raises(lf.InputError, match=f"made for torch {re.escape(torch.__version__)}"):
        metrics.lpips(IMAGE, IMAGE, "vgg")


class StandIn(nn.Module):
    """Takes the place of torchmetrics' class: pooled squared error, and a state that must be reset."""

    def __init__(self, net_type, reduction):
        super().__init__()
        assert (net_type, reduction) == ("vgg", "none")
        self.net, self.calls = nn.Sequential(nn.Sequential(nn.MaxPool2d(2, 2))), 0

    def forward(self, a, b):
        assert self.calls == 0
        self.calls += 1
        assert a.shape[1] == b.shape[1] == 3
        return (self.net(a) - self.net(b)).square().mean((1, 2, 3)).squeeze()

    def reset(self):
        self.calls = 0


def test_lpips_hands_over_clipped_colour_images_and_replaces_the_pooling(accepted_weights, monkeypatch, generator):
    module = SimpleNamespace(LearnedPerceptualImagePatchSimilarity=StandIn)
    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "torchmetrics.image.lpip", module)
    x = photo_like(2, (1, 32, 34), torch.float64)
    y = noisy(x, 0.5, generator)
    for variant, pool in (("vgg", nn.MaxPool2d(2)), ("vgg_average", nn.AvgPool2d(2))):
        expected = (pool(x) - pool(y.clamp(-1, 1))).square().mean((1, 2, 3))
        torch.testing.assert_close(metrics.lpips(y, x, variant), expected, rtol=1e-5, atol=0)
        torch.testing.assert_close(metrics.lpips(y[:1], x[:1], variant), expected[:1], rtol=1e-5, atol=0)
