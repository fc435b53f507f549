"""`lmaps-fast restore`: from measurements in files to restored images in files."""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from lmaps_fast import Restorer, metrics, operators
from lmaps_fast.apps import plot, tasks
from lmaps_fast.apps.options import DEVICE, PRIOR, Options
from lmaps_fast.errors import InputError
from lmaps_fast.files import image, jpeg_file
from lmaps_fast.operators import Operator
from lmaps_fast.operators.jpeg_restoration import JpegRestoration


@dataclass(frozen=True)
class Files:
    """What is read and written.

    Args:
        inputs: images, or measurements as .npy; a .jpg file carries its own options of jpeg_restoration.
        output: an image file; for several inputs a folder, which gets a .png for each.
        metrics: the original, to print PSNR and SSIM against; default: none.
        plot: also write OUTPUT.plot.png, which shows degraded, restored and original side by side.
    """

    inputs: list[Path]
    output: Path
    metrics: Path | None = None
    plot: bool = False

    def pairs(self) -> list[tuple[Path, Path]]:
        """Each input and its output, checked before any work is done."""
        if len(self.inputs) == 1 and not self.output.is_dir():
            outputs = [self.output]
        elif not self.output.is_dir():
            raise InputError(f"{self.output}: several inputs need an existing folder as output")
        else:
            outputs = [self.output / f"{path.stem}.png" for path in self.inputs]
        for path in outputs:
            image.check_output(path)
        if len(set(outputs)) < len(outputs):
            raise InputError("two inputs would be written to one output: give files of different names")
        if clash := {path.resolve() for path in outputs} & {path.resolve() for path in self.inputs}:
            raise InputError(f"{clash.pop()} is input and output: choose another output")
        if self.metrics and len(outputs) > 1:
            raise InputError("--metrics compares one image: give one input")
        return list(zip(self.inputs, outputs, strict=True))


FILES = Options(Files, inputs="inputs", output="-o --output")
SET_UP = Options(Restorer, "solver", "steps", "preset", "backend", "tile", "runs", "noise", "graphs")
SEED = Options(Restorer.__call__, "seed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    FILES.add_to(parser)
    tasks.add_arguments(parser)
    for options in (SET_UP, SEED, PRIOR, DEVICE):
        options.add_to(parser)


def run(arguments: argparse.Namespace) -> None:
    """Restore images."""
    files, parameters = FILES.call(arguments), tasks.parameters(arguments)
    pairs, device = files.pairs(), DEVICE.call(arguments)
    original = None if files.metrics is None else image.read(files.metrics).pixels
    denoiser = PRIOR.call(arguments, device=device)
    for source, target in pairs:
        measurement = load(source, arguments.task, parameters, device, original)
        size = image.upright(torch.empty(1, *measurement.operator.shape), measurement.orientation).shape
        if original is not None and original.shape != size:
            shapes = " and ".join(f"{list(shape[1:])}" for shape in (original.shape, size))
            raise InputError(
                f"{files.metrics} and what {source} restores to differ in channels or size, {shapes}: give the original"
            )
        restorer = SET_UP.call(arguments, operator=measurement.operator, denoiser=denoiser)
        calls, start = restorer.schedule.total * restorer.runs, time.perf_counter()
        with tqdm(total=calls, desc=source.name, unit="step", leave=False, disable=None) as bar:
            restored = SEED.call(arguments, self=restorer, y=measurement.y, callback=lambda _: bar.update())
        pixels = image.upright(restored.cpu(), measurement.orientation)
        seconds = time.perf_counter() - start
        image.write(target, measurement.picture.with_pixels(pixels))
        height, width = pixels.shape[2:]
        unit = "network calls" if restorer.solver.name == "lmaps" else "steps"
        print(f"{target}: {width}x{height}, {calls} {unit}, {seconds:.1f} s")
        show(target, measurement.preview, pixels, original, files.plot)


def show(target: Path, degraded: Tensor | None, restored: Tensor, original: Tensor | None, plotted: bool) -> None:
    """Print how good an image is, if there is an original, and write the plot, if it is asked for."""
    panels = [("restored", restored)]
    if degraded is not None:
        panels.insert(0, ("degraded", degraded))
    if original is not None:
        lines = [metrics.line(panel, original) for _, panel in panels]
        print("\n".join(f"{name}: {line}" for (name, _), line in zip(panels, lines, strict=True)))
        panels = [(f"{name}, {line.split(',')[0]}", panel) for (name, panel), line in zip(panels, lines, strict=True)]
        panels.append(("original", original))
    if plotted:
        path = target.with_suffix(".plot.png")
        plot.side_by_side(path, panels)
        print(path)


@dataclass(frozen=True)
class Measurement:
    """What was read from an input file: the measurement of an operator; a picture of it for people, which also says
    what the restored one is to be like; and the EXIF orientation still to be applied to the result."""

    operator: Operator
    y: Tensor
    picture: image.Picture
    orientation: int = 1

    @property
    def preview(self) -> Tensor | None:
        shown = self.operator.preview(self.y.cpu())
        return None if shown is None else image.upright(shown, self.orientation)


def load(path: Path, task: str, parameters: dict[str, Any], device: str, original: Tensor | None = None) -> Measurement:
    """Read a measurement. The operator is that of the original's size if it fits, else that of the measurement's."""
    if task == JpegRestoration.name and "quality" not in parameters:
        if told := parameters.keys() - {"seed"}:
            raise InputError(f"{path} carries its own {' and '.join(sorted(told))}: leave them out, or give --quality")
        file = jpeg_file.read(path)
        from_file, y = JpegRestoration.from_file(file, device=device)
        return Measurement(from_file, y, image.Picture(image.upright(y.cpu(), file.orientation)), file.orientation)
    picture = image.Picture(image.read_array(path)) if path.suffix.lower() == ".npy" else image.read(path)
    y = picture.pixels.to(device)
    measured = tuple(y.shape[1:])
    operator = None
    if original is not None and min(original.shape[2:]) >= operators.SMALLEST_SIDE:
        operator = operators.create(task, original.shape[1:], device=device, **parameters)
    if operator is None or operator.measurement_shape != measured:
        shape = operators.image_shape(task, measured, **parameters)
        operator = operators.create(task, shape, device=device, **parameters)
    if operator.noise == 0:
        y = operator(y)  # back on the lattice of the quantizer, which the rounding of pixels has left
    return Measurement(operator, y, picture)
