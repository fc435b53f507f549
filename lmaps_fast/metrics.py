"""Image quality, by the protocol of DAPS: images to [0, 1], clipped.

PSNR needs nothing more. SSIM is scikit-image's (extra `metrics`), LPIPS is torchmetrics' (extra `lpips`).
"""

import hashlib
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lmaps_fast.errors import InputError

SSIM_WINDOW = 11
LPIPS_LEAST_SIZE = 32  # AlexNet's second pooling has nothing left to pool below 31
WEIGHTS_URL = "https://download.pytorch.org/models/"


class LpipsVariant(NamedTuple):
    description: str  # to stand beside every figure
    backbone: str  # torchmetrics' name of it
    weights: str  # torchvision's file of ImageNet weights: its name ends in the first digits of its SHA-256
    average_pooling: bool = False


LPIPS_VARIANTS = {
    "alex": LpipsVariant("AlexNet, v0.1", "alex", "alexnet-owt-7be5be79.pth"),
    "squeeze": LpipsVariant("SqueezeNet 1.1, v0.1", "squeeze", "squeezenet1_1-b8a52dc0.pth"),
    "vgg": LpipsVariant("VGG16, v0.1", "vgg", "vgg16-397923af.pth"),
    "vgg_average": LpipsVariant("VGG16 with average pooling, v0.1", "vgg", "vgg16-397923af.pth", average_pooling=True),
}


def psnr(x: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each image, [B]: data range 1 after clipping.

    Args:
        x, reference: images [B, C, *spatial] in and around [-1, 1].
    """
    a, b = ((image / 2 + 0.5).clamp(0, 1) for image in (x, reference))
    return -10 * torch.log10((a - b).square().flatten(1).mean(1))


def ssim(x: Tensor, reference: Tensor) -> Tensor:
    """Structural similarity of each image, [B]: at most 1, and 1 for equal images.

    The mean over channels and over all places where the window fits of

        (2 m_a m_b + C1) (2 s_ab + C2) / ((m_a^2 + m_b^2 + C1) (s_a^2 + s_b^2 + C2)),   C1 = .01^2,  C2 = .03^2,

    with means m, variances s^2 and covariance s_ab (population, not sample) under a Gaussian window of 11x11 and
    sigma 1.5, of images mapped to [0, 1] and clipped; float64 inside, and without a gradient. The image is not
    downsampled first; implementations that do (piq, from 384 pixels on) give other values there.

    Args:
        x, reference: images [B, C, H, W] in and around [-1, 1], of at least 11x11 pixels.

    Errors: InputError for shapes that differ, for images smaller than 11x11, and without scikit-image.
    Source: Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment", IEEE TIP 2004.
    """
    _check_shapes(x, reference, SSIM_WINDOW, "SSIM")
    structural_similarity = _library("skimage.metrics", "metrics").structural_similarity
    a, b = ((image.detach().cpu().double() / 2 + 0.5).clamp(0, 1).numpy() for image in (x, reference))
    # gaussian_weights cuts the Gaussian off at 3.5 sigma, which makes the window 11 wide.
    options = {"sigma": 1.5, "gaussian_weights": True, "use_sample_covariance": False, "K1": 0.01, "K2": 0.03}
    values = [structural_similarity(p, q, data_range=1, channel_axis=0, **options) for p, q in zip(a, b, strict=True)]
    return torch.tensor(values, dtype=x.dtype, device=x.device)


@torch.no_grad()
def lpips(x: Tensor, reference: Tensor, variant: str = "alex") -> Tensor:
    """Learned perceptual distance of each image, [B]: 0 for equal images.

    The squared difference of unit-normalized features, weighted by the learned heads of v0.1, averaged over places
    and summed over layers; float32 inside, clipped images, grey as three equal channels. The variants give different
    values, so name the one used: LPIPS_VARIANTS[variant].description. "vgg_average" follows the protocol of DAPS.

    torchmetrics brings the heads. The ImageNet weights of the backbone are torchvision's file, which is never
    downloaded here: it must lie in `torch.hub.get_dir()`/checkpoints, and its SHA-256 is checked.

    Args:
        x, reference: images [B, 1 or 3, H, W] in and around [-1, 1], of at least 32x32 pixels.
        variant: a name of `LPIPS_VARIANTS`; default "alex".

    Errors: InputError for an unknown variant, shapes that differ, images smaller than 32x32, a number of channels
    other than 1 or 3, a weights file that is missing or damaged, and without torchmetrics or torchvision.
    Source: Zhang, Isola, Efros, Shechtman, Wang, arXiv 1801.03924.
    """
    if variant not in LPIPS_VARIANTS:
        raise InputError(f"unknown LPIPS variant {variant!r}: choose one of {', '.join(LPIPS_VARIANTS)}")
    _check_shapes(x, reference, LPIPS_LEAST_SIZE, "LPIPS")
    if x.shape[1] not in (1, 3):
        raise InputError(f"LPIPS compares images of 1 or 3 channels, not {x.shape[1]}: give grey or RGB images")
    metric = _lpips_metric(variant, Path(torch.hub.get_dir(), "checkpoints")).to(x.device)
    values = metric(*(image.float().clamp(-1, 1).expand(-1, 3, -1, -1) for image in (x, reference)))
    metric.reset()  # it would keep the values of all calls
    return values.to(x.dtype).reshape(-1)  # the value of a single image comes without a batch axis


def without_lpips(variant: str = "alex") -> str | None:
    """Why `lpips` cannot be told here, or None if it can."""
    blank = torch.zeros(1, 3, LPIPS_LEAST_SIZE, LPIPS_LEAST_SIZE)
    try:
        lpips(blank, blank, variant)
    except InputError as error:
        return str(error)
    return None


@lru_cache(maxsize=1)
def _lpips_metric(variant: str, folder: Path) -> Any:
    """torchmetrics' LPIPS of a variant, with the backbone's weights from a folder."""
    description, backbone, weights, average_pooling = LPIPS_VARIANTS[variant]
    path = folder / weights
    cure = f"put {WEIGHTS_URL}{weights} there"
    if not path.is_file():
        raise InputError(f"LPIPS ({description}) needs the backbone's weights at {path}: {cure}")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(path.stem.rpartition("-")[2]):
        raise InputError(f"{path}: this is another file, or damaged (its SHA-256 begins with {digest[:8]}): {cure}")
    _library("torchvision", "lpips")
    metric = _library("torchmetrics.image.lpip", "lpips").LearnedPerceptualImagePatchSimilarity(backbone, "none")
    if average_pooling:
        _replace_pooling(metric)
    return metric


def _replace_pooling(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.MaxPool2d):
            setattr(module, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding))
        _replace_pooling(child)


def line(x: Tensor, reference: Tensor) -> str:
    """PSNR, and SSIM where it can be had, of one image in words."""
    text = f"{psnr(x, reference).item():.2f} dB"
    try:
        return f"{text}, SSIM {ssim(x, reference).item():.4f}"
    except InputError:
        return text


def _check_shapes(x: Tensor, reference: Tensor, least: int, name: str) -> None:
    if x.ndim != 4 or x.shape != reference.shape:
        shapes = f"{list(x.shape)} and {list(reference.shape)}"
        raise InputError(f"{name} compares images of one shape [B, C, H, W], not {shapes}: give image and original")
    if min(x.shape[2:]) < least:
        raise InputError(f"{name} needs at least {least}x{least} pixels, not {x.shape[2]}x{x.shape[3]}: use psnr")


def _library(module: str, extra: str) -> ModuleType:
    """An optional package, imported when it is first needed."""
    name = module.partition(".")[0]
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(f"{name} cannot be imported ({error}): pip install 'lmaps_fast[{extra}]'") from None
    except RuntimeError as error:  # so fails a torchvision whose library was linked to another torch
        cure = f"install the {name} made for torch {torch.__version__} (pytorch.org/get-started)"
        raise InputError(f"{name} cannot be imported ({error}): {cure}") from None
