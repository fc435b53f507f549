"""How well a denoiser denoises: PSNR over noise levels on a folder of photographs, beside BM3D as a yardstick."""

import argparse
import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor
from tqdm import tqdm

from lmaps_fast import metrics
from lmaps_fast.apps.options import DEVICE, PRIOR, Options
from lmaps_fast.denoisers import Denoiser
from lmaps_fast.errors import InputError
from lmaps_fast.files import image
from lmaps_fast.noise import MEASUREMENT, keys
from lmaps_fast.ops import add_normal

SIGMAS = (5 / 255, 15 / 255, 25 / 255, 50 / 255, 64 / 255, 0.25, 0.5, 1.0, 5.0)
SEED = 0

Figures = dict[float, float]


def photographs(folder: str | os.PathLike) -> Iterator[tuple[str, Tensor]]:
    """Name, and RGB pixels [1, 3, H, W] in [-1, 1], of each photograph, sorted by name.

    Grey images get three equal channels, alpha is left out. An image that cannot be read is skipped with a warning that
    names it.

    Args:
        folder: of photographs, those in the folders below included.

    Errors: InputError for a folder that cannot be read, or without a single image that can.
    """
    root, paths = Path(folder), []
    if not root.is_dir():
        raise InputError(f"{folder}: there is no such folder: name one with photographs")
    try:
        for parent, _, files in os.walk(root, onerror=_raise):
            paths += [Path(parent, file) for file in files if Path(file).suffix.lower() in image.FORMATS]
    except OSError as error:
        raise InputError(f"{error.filename}: cannot read this folder ({error.strerror})") from None
    some = False
    for path in sorted(paths):
        try:
            pixels = image.read(path).pixels
        except InputError as error:
            warnings.warn(f"{error} (skipped)", stacklevel=2)
            continue
        some = True
        yield path.relative_to(root).as_posix(), pixels.expand(-1, 3, -1, -1)
    if not some:
        raise InputError(f"{folder}: no image in this folder can be read: name one with photographs (PNG, JPEG, WebP)")


def _raise(error: OSError) -> None:
    raise error


def centre(pixels: Tensor, side: int) -> Tensor:
    """The middle of [..., H, W], at most `side` pixels high and wide."""
    height, width = (min(side, size) for size in pixels.shape[-2:])
    top, left = (pixels.shape[-2] - height) // 2, (pixels.shape[-1] - width) // 2
    return pixels[..., top : top + height, left : left + width]


def of_one_size(
    folder: str | os.PathLike, most: int | None = None, crop: int | None = None
) -> tuple[list[str], Tensor]:
    """Names, and pixels [B, 3, H, W] in [-1, 1], of photographs of one size.

    Args:
        folder: of photographs, all of one size or none smaller than crop.
        most: take so many of them, from the first on; default: all.
        crop: take the middle of so many pixels a side; default: the whole.

    Errors: InputError for other numbers, and for photographs that differ in size.
    """
    for name, value in (("--photographs", most), ("--crop", crop)):
        if value is not None and value < 1:
            raise InputError(f"{name} must be at least 1, not {value}")
    found = dict(islice(photographs(folder), most))
    if crop is not None:
        found = {name: centre(pixels, crop) for name, pixels in found.items()}
    if len({pixels.shape for pixels in found.values()}) > 1:
        raise InputError(f"{folder}: the photographs differ in size: put those of one size into a folder of their own")
    return list(found), torch.cat(list(found.values()))


@torch.no_grad()
def evaluate(
    denoiser: Denoiser,
    images: Sequence[Tensor],
    sigmas: Sequence[float] = SIGMAS,
    callback: Callable[[], object] = lambda: None,
) -> Figures:
    """Denoising PSNR in dB at each noise level: the mean, over the images, of PSNR(D(x + 2 sigma eps, 2 sigma), x).

    eps is a function of the image's number alone, so two denoisers see the same noise, and a figure does not depend on
    which others are taken. The result is clipped to [-1, 1] and not rounded.

    Args:
        denoiser: (x, sigma) -> mean, for x in the scale of [-1, 1].
        images: each [1, C, H, W] in [-1, 1], on the denoiser's device.
        sigmas: positive, on the scale of images in [0, 1], which is the usual one of such figures; the denoiser is
            called at 2 sigma, on its own scale. Default: nine from 5/255 to 5.
        callback: called after each denoised image.

    Errors: InputError for an empty list of images and for levels that are not positive.
    """
    if not images:
        raise InputError("there is no image to evaluate on: give at least one")
    if not sigmas or min(sigmas) <= 0:
        raise InputError("noise levels must be positive: give, for example, 25/255")
    total = dict.fromkeys(sigmas, 0.0)
    for number, x in enumerate(images):
        for sigma in total:
            noisy = add_normal(x, keys(MEASUREMENT, SEED, [number], x.device), 0, 2 * sigma)
            total[sigma] += metrics.psnr(denoiser(noisy, 2 * sigma), x).item()
            callback()
    return {sigma: value / len(images) for sigma, value in total.items()}


def bm3d() -> Denoiser:
    """BM3D as a denoiser for grey or RGB images: the package bm3d of its authors, which is free for non-commercial use
    only. It runs on the CPU, a second or more per image of 256x256. Raises InputError where the package is missing.

    Source: Dabov, Foi, Katkovnik, Egiazarian, IEEE TIP 2007; Mäkinen, Azzari, Foi, IEEE TIP 2020.
    """
    try:
        package = import_module("bm3d")
    except ImportError:
        raise InputError(
            "the comparison with BM3D needs its package: pip install bm3d (free for non-commercial use only)"
        ) from None

    def one(x: Tensor, sigma: float) -> Tensor:
        noisy = (x.permute(1, 2, 0).double().cpu() / 2 + 0.5).numpy()
        denoise = package.bm3d_rgb if len(x) == 3 else package.bm3d
        clean = torch.from_numpy(denoise(noisy, sigma / 2)).reshape(*x.shape[1:], len(x))
        return (clean.permute(2, 0, 1) * 2 - 1).to(x)

    return lambda x, sigma: torch.stack([one(single, sigma) for single in x])


def label(sigma: float) -> str:
    """A noise level on [0, 1] as it is usually written: 25/255, or .5 as 0.5."""
    levels = sigma * 255
    return f"{levels:.0f}/255" if abs(levels - round(levels)) < 1e-9 and levels < 255 else f"{sigma:g}"


def table(results: dict[str, Figures]) -> str:
    """Text: a row per denoiser, a column per noise level, PSNR in dB."""
    width = max(len("sigma"), *map(len, results))
    levels = next(iter(results.values()))
    rows = [f"{'sigma':<{width}}" + "".join(f"{label(sigma):>8}" for sigma in levels)]
    for name, figures in results.items():
        rows.append(f"{name:<{width}}" + "".join(f"{value:8.2f}" for value in figures.values()))
    return "\n".join(rows)


def as_json(results: dict[str, Figures], images: int) -> str:
    """The same as JSON: {"images": how many, "unit": "dB", "psnr": {denoiser: {noise level: PSNR}}}."""
    psnr = {name: {label(sigma): value for sigma, value in figures.items()} for name, figures in results.items()}
    return json.dumps({"images": images, "unit": "dB", "psnr": psnr}, indent=2)


def level(text: str) -> float:
    """A noise level from the command line: 25/255 or .25. Raises ValueError for other text, as argparse expects."""
    numerator, _, denominator = text.partition("/")
    value = float(numerator) / float(denominator or 1) if denominator != "0" else 0.0
    if not 0 < value < float("inf"):
        raise ValueError(text)
    return value


@dataclass(frozen=True)
class Evaluation:
    """How a prior is evaluated.

    Args:
        sigmas: noise levels on the scale of images in [0, 1], for example 25/255 .5; default: nine from 5/255 to 5.
        crop: take the middle of photographs that are wider or higher than so many pixels; default: the whole.
        bm3d: evaluate BM3D as well (pip install bm3d, which is free for non-commercial use only).
        json: a file, to write the table into as JSON; default: none.
    """

    sigmas: Sequence[Annotated[float, level]] = SIGMAS
    crop: int | None = None
    bm3d: bool = False
    json: Path | None = None


EVALUATION, PHOTOGRAPHS = Options(Evaluation), Options(photographs, folder="--images")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for options in (PHOTOGRAPHS, EVALUATION, PRIOR, DEVICE):
        options.add_to(parser)


def run(arguments: argparse.Namespace) -> None:
    """Print the denoising PSNR of a prior on a folder of photographs."""
    wanted, device = EVALUATION.call(arguments), DEVICE.call(arguments)
    if wanted.crop is not None and wanted.crop < 1:
        raise InputError(f"--crop must be a positive number of pixels, not {wanted.crop}")
    if wanted.json is not None:
        image.check_output(wanted.json, (".json",))
    name = Path(PRIOR.given(arguments).get("source", "natural")).name
    methods = {name: PRIOR.call(arguments, device=device)}
    if wanted.bm3d:
        methods["BM3D"] = bm3d()
    images = [
        pixels.to(device) if wanted.crop is None else centre(pixels, wanted.crop).to(device)
        for _, pixels in PHOTOGRAPHS.call(arguments)
    ]
    results = {}
    total = len(methods) * len(images) * len(wanted.sigmas)
    with tqdm(total=total, desc="evaluate-prior", unit="image", leave=False, disable=None) as bar:
        for name, denoiser in methods.items():
            results[name] = evaluate(denoiser, images, wanted.sigmas, bar.update)
    print(f"PSNR in dB, mean of {len(images)} photographs, sigma on [0, 1]\n{table(results)}")
    if wanted.json is not None:
        image.write_bytes(wanted.json, (as_json(results, len(images)) + "\n").encode())
        print(wanted.json)
