"""`lmaps-fast degrade`: a degraded image, to try a task on."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from lmaps_fast import operators
from lmaps_fast.apps import tasks
from lmaps_fast.apps.options import Options
from lmaps_fast.errors import InputError
from lmaps_fast.files import image
from lmaps_fast.operators import Operator
from lmaps_fast.operators.jpeg_restoration import JpegRestoration
from lmaps_fast.ops.jpeg_codec import SUBSAMPLINGS


@dataclass(frozen=True)
class Files:
    """What is read and written.

    Args:
        image: an image file.
        output: an image file, or .npy, which is neither rounded nor clipped; for jpeg_restoration also .jpg.
    """

    image: Path
    output: Path


FILES = Options(Files, image="image", output="-o --output")
MEASURE = Options(Operator.measure, "noise", "seed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    FILES.add_to(parser)
    tasks.add_arguments(parser)
    MEASURE.add_to(parser)


def run(arguments: argparse.Namespace) -> None:
    """Make a degraded image, to try a task on."""
    files, parameters = FILES.call(arguments), tasks.parameters(arguments)
    image.check_output(files.output, (*image.FORMATS, ".npy"))
    ending = files.output.suffix.lower()
    picture = image.read(files.image)
    operator = operators.create(arguments.task, picture.pixels.shape[1:], **parameters)
    if isinstance(operator, JpegRestoration) and image.FORMATS.get(ending) == "JPEG":
        write_jpeg(files.output, picture, operator, MEASURE.given(arguments).get("noise"))
    else:
        y = MEASURE.call(arguments, self=operator, x=picture.pixels)
        if ending == ".npy":
            image.write_array(files.output, y)
        elif operator.preview(y) is None:
            raise InputError(f"a measurement of {arguments.task} is no image: write it as .npy")
        else:
            image.write(files.output, picture.with_pixels(y))
    print(files.output)


def write_jpeg(path: Path, picture: image.Picture, operator: JpegRestoration, noise: float | None) -> None:
    """Write a real JPEG file: its own quantization is the degradation."""
    if noise:
        raise InputError("a .jpg file cannot hold a measurement with noise: leave noise out, or write it as .npy")
    (subsampling,) = (name for name, factors in SUBSAMPLINGS.items() if factors == operator.subsampling)
    steps = operator.tables[0].int().flatten(1).tolist()
    image.write(path, picture, quality=-1, qtables=steps, subsampling=subsampling)  # -1: no table of its own
