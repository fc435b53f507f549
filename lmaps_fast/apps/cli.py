"""The command line: lmaps-fast restore | degrade | train | evaluate-prior | download | bench | tasks | info."""

import argparse
import inspect
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor
from tqdm import tqdm

from lmaps_fast import Restorer, __version__, denoisers, metrics, operators, solvers
from lmaps_fast.apps import evaluate, info, plot
from lmaps_fast.apps.training import command as training
from lmaps_fast.denoisers import Denoiser, checkpoints
from lmaps_fast.errors import InputError
from lmaps_fast.files import image, jpeg_file
from lmaps_fast.operators import Operator
from lmaps_fast.operators.jpeg_restoration import JpegRestoration
from lmaps_fast.race import command as racing

# Options that are parameters of tasks: the operator says which of them it takes.
TASK_OPTIONS: dict[str, dict] = {
    "mask": {"metavar": "FILE", "help": "inpainting: an image, white where pixels are known"},
    "missing": {
        "type": float,
        "metavar": "P",
        "help": "inpainting_random: share of missing pixels (drawn: .70 to .71)",
    },
    "scale": {"type": int, "metavar": "N", "help": "super_resolution: how many times smaller y is (4)"},
    "method": {"metavar": "NAME", "help": "super_resolution: bicubic or average (bicubic)"},
    "sigma": {"type": float, "metavar": "PIXELS", "help": "gaussian_deblurring: standard deviation of the blur (3)"},
    "kernel": {"metavar": "FILE", "help": "motion_deblurring: an image or .npy of odd sides (a drawn stroke)"},
    "padding": {"metavar": "NAME", "help": "motion_deblurring: reflect or circular (reflect)"},
    "intensity": {"type": float, "metavar": "I", "help": "motion_deblurring: of the drawn stroke, up to 1 (.5)"},
    "oversampling": {
        "type": float,
        "metavar": "R",
        "help": "phase_retrieval: zeros around the image, R / 8 a side (2)",
    },
    "weights": {"metavar": "FILE", "help": "nonlinear_deblurring: GOPRO_wVAE.pth (a random network)"},
    "gain": {"type": float, "metavar": "G", "help": "high_dynamic_range: brightness before the clip (2)"},
    "bits": {"type": int, "metavar": "B", "help": "quantization: bits of a pixel (2)"},
    "quality": {"type": int, "metavar": "Q", "help": "jpeg_restoration: IJG quality (a .jpg file carries its own)"},
}


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="lmaps-fast", description="Restore images with a diffusion prior, by Local MAP Sampling.")
    parser.add_argument("--version", action="version", version=f"lmaps-fast {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)

    restore = commands.add_parser("restore", help="restore images")
    restore.add_argument("inputs", nargs="+", type=Path, metavar="IN")
    restore.add_argument("-o", "--output", required=True, type=Path, metavar="OUT", help="file; a folder if several IN")
    restore.add_argument("--steps", type=int, metavar="N", help="network calls (the preset's)")
    restore.add_argument("--solver", default="lmaps", metavar="S", help=f"{', '.join(solvers.REGISTRY)} (lmaps)")
    restore.add_argument("--prior", default="natural", metavar="P", help="name or file (natural); see `info`")
    restore.add_argument("--preset", help="table of hyper-parameters: paper or natural (the prior's own)")
    restore.add_argument("--device", help="cpu or cuda (a GPU if there is one)")
    restore.add_argument("--backend", help="cuda, triton, cpu, torch or reference (the quickest that can run)")
    restore.add_argument("--tile", type=int, metavar="PIXELS", help="side of the network's tiles, 0: none (by size)")
    restore.add_argument("--runs", type=int, metavar="R", help="keep the best of R (phase_retrieval: 4, else 1)")
    restore.add_argument("--metrics", type=Path, metavar="REF", help="print PSNR and SSIM against this original")
    restore.add_argument("--plot", action="store_true", help="also write OUT.plot.png: degraded | restored | original")

    degrade = commands.add_parser("degrade", help="make a degraded image, to try a task on")
    degrade.add_argument("input", type=Path, metavar="IN")
    degrade.add_argument("-o", "--output", required=True, type=Path, metavar="OUT")

    for command in (restore, degrade):
        command.add_argument("--task", required=True, metavar="NAME", help=", ".join(operators.REGISTRY))
        command.add_argument(
            "--noise", type=float, metavar="STD", help="of y, in the scale [-1, 1] (.05; JPEG, quantization: 0)"
        )
        command.add_argument("--seed", type=int, default=0, metavar="K", help="of the noise (0)")
        command.add_argument("--operator-seed", type=int, default=0, metavar="K", help="of a drawn mask or stroke (0)")
        for name, options in TASK_OPTIONS.items():
            command.add_argument(f"--{name}", **options)
    train = commands.add_parser("train", help="train a prior on a folder of photographs")
    training.add_arguments(train)
    evaluation = commands.add_parser("evaluate-prior", help="denoising PSNR of a prior on a folder of photographs")
    evaluate.add_arguments(evaluation)
    download = commands.add_parser("download", help="fetch a public checkpoint for --prior")
    download.add_argument("name", metavar="NAME", help=", ".join(checkpoints.CHECKPOINTS))
    download.add_argument("--sha256", metavar="HEX", help="what the file must hash to, where none is published")

    bench = commands.add_parser("bench", help="measure").add_subparsers(dest="benchmark", required=True)
    race = bench.add_parser("race", help="all solvers on the same photographs: seconds and quality")
    racing.add_arguments(race)

    commands.add_parser("tasks", help="list the tasks and their options")
    commands.add_parser("info", help="say what is installed and what runs here")
    return parser


def task_parameters(arguments: argparse.Namespace) -> dict[str, object]:
    return {name: getattr(arguments, name) for name in TASK_OPTIONS if getattr(arguments, name) is not None}


def make_operator(arguments: argparse.Namespace, shape: Sequence[int], device: str = "cpu") -> Operator:
    given = task_parameters(arguments)
    return operators.create(arguments.task, shape, seed=arguments.operator_seed, device=device, **given)


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


def load(path: Path, arguments: argparse.Namespace, device: str, reference: Tensor | None) -> Measurement:
    """Read a measurement. The operator is that of the reference's size if it fits, else that of the measurement's."""
    if arguments.task == JpegRestoration.name and arguments.quality is None:
        file = jpeg_file.read(path)
        from_file, y = JpegRestoration.from_file(file, device=device)
        return Measurement(from_file, y, image.Picture(image.upright(y.cpu(), file.orientation)), file.orientation)
    picture = image.Picture(image.read_array(path)) if path.suffix.lower() == ".npy" else image.read(path)
    y = picture.pixels.to(device)
    measured = tuple(y.shape[1:])
    operator = None
    if reference is not None and min(reference.shape[2:]) >= operators.SMALLEST_SIDE:
        operator = make_operator(arguments, reference.shape[1:], device)
    if operator is None or operator.measurement_shape != measured:
        shape = operators.image_shape(arguments.task, measured, **task_parameters(arguments))
        operator = make_operator(arguments, shape, device)
    if operator.noise == 0:
        y = operator(y)  # back on the lattice of the quantizer, which the rounding of pixels has left
    return Measurement(operator, y, picture)


def outputs(arguments: argparse.Namespace) -> list[Path]:
    """One output file per input, checked before any work is done."""
    if len(arguments.inputs) == 1 and not arguments.output.is_dir():
        paths = [arguments.output]
    elif not arguments.output.is_dir():
        raise InputError(f"{arguments.output}: several inputs need an existing folder as output")
    else:
        paths = [arguments.output / f"{path.stem}.png" for path in arguments.inputs]
    for path in paths:
        image.check_output(path)
    if len(set(paths)) < len(paths):
        raise InputError("two inputs would be written to one output: give files of different names")
    if clash := {p.resolve() for p in paths} & {p.resolve() for p in arguments.inputs}:
        raise InputError(f"{clash.pop()} is input and output: choose another output")
    return paths


def run_restore(arguments: argparse.Namespace) -> None:
    operators.parameters(arguments.task)
    paths = outputs(arguments)
    device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device != "cpu" and not torch.cuda.is_available():
        raise InputError(f"device {device!r} cannot be used: torch finds no GPU; leave --device out or give cpu")
    if arguments.metrics and len(paths) > 1:
        raise InputError("--metrics compares one image: give one input")
    reference = image.read(arguments.metrics).pixels if arguments.metrics else None
    prior = denoisers.load(arguments.prior, device)
    for source, target in zip(arguments.inputs, paths, strict=True):
        restore_one(source, target, reference, prior, arguments, device)


def restore_one(
    source: Path,
    target: Path,
    reference: Tensor | None,
    prior: Denoiser,
    arguments: argparse.Namespace,
    device: str,
) -> None:
    measurement = load(source, arguments, device, reference)
    operator = measurement.operator
    size = image.upright(torch.empty(1, *operator.shape), measurement.orientation).shape
    if reference is not None and reference.shape != size:
        shapes = " and ".join(f"{list(shape[1:])}" for shape in (reference.shape, size))
        raise InputError(
            f"{arguments.metrics} and what {source} restores to differ in channels or size, {shapes}: give the original"
        )
    chosen = {"tile": arguments.tile, "runs": arguments.runs, "noise": arguments.noise}
    restorer = Restorer(
        operator, prior, arguments.solver, arguments.steps, arguments.preset, arguments.backend, **chosen
    )
    calls, start = restorer.schedule.total * restorer.runs, time.perf_counter()
    with tqdm(total=calls, desc=source.name, unit="step", leave=False, disable=None) as bar:
        restored = restorer(measurement.y, seed=arguments.seed, callback=lambda _: bar.update())
    pixels = image.upright(restored.cpu(), measurement.orientation)
    seconds = time.perf_counter() - start
    image.write(target, measurement.picture.with_pixels(pixels))
    height, width = pixels.shape[2:]
    unit = "network calls" if arguments.solver == "lmaps" else "steps"
    print(f"{target}: {width}x{height}, {calls} {unit}, {seconds:.1f} s")
    panels = [("restored", pixels)]
    if measurement.preview is not None:
        panels.insert(0, ("degraded", measurement.preview))
    if reference is not None:
        lines = [metrics.line(panel, reference) for _, panel in panels]
        print("\n".join(f"{name}: {line}" for (name, _), line in zip(panels, lines, strict=True)))
        panels = [(f"{name}, {line.split(',')[0]}", panel) for (name, panel), line in zip(panels, lines, strict=True)]
        panels.append(("original", reference))
    if arguments.plot:
        path = target.with_suffix(".plot.png")
        plot.side_by_side(path, panels)
        print(path)


def run_degrade(arguments: argparse.Namespace) -> None:
    operators.parameters(arguments.task)
    image.check_output(arguments.output, (*image.FORMATS, ".npy"))
    ending = arguments.output.suffix.lower()
    picture = image.read(arguments.input)
    operator = make_operator(arguments, picture.pixels.shape[1:])
    if isinstance(operator, JpegRestoration) and image.FORMATS.get(ending) == "JPEG":
        # A real JPEG file: its own quantization is the degradation.
        quality = 5 if arguments.quality is None else arguments.quality
        image.write(arguments.output, picture, quality=quality, subsampling="4:2:0")
    else:
        y = operator.measure(picture.pixels, arguments.noise, arguments.seed)
        if ending == ".npy":
            image.write_array(arguments.output, y)
        elif operator.preview(y) is None:
            raise InputError(f"a measurement of {arguments.task} is no image: write it as .npy")
        else:
            image.write(arguments.output, picture.with_pixels(y))
    print(arguments.output)


def tasks() -> str:
    """The text of `lmaps-fast tasks`."""
    lines = []
    for task, operator in operators.REGISTRY.items():
        lines.append(f"{task}\n  {(inspect.getmodule(operator).__doc__ or '').strip()}")
        for name in operators.parameters(task):
            if name in TASK_OPTIONS:
                lines.append(f"    --{name} {TASK_OPTIONS[name]['help'].partition(': ')[2]}")
    return "\n".join(lines)


COMMANDS = {
    "restore": run_restore,
    "degrade": run_degrade,
    "train": training.run,
    "evaluate-prior": evaluate.run,
    "bench": racing.run,
    "download": lambda arguments: print(checkpoints.download(arguments.name, arguments.sha256)),
    "tasks": lambda _: print(tasks()),
    "info": lambda _: print(info.report()),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 for success, 2 after one sentence on standard error for bad input."""
    try:
        arguments = build_parser().parse_args(argv)
        with warnings.catch_warnings():  # which also puts showwarning back
            warnings.showwarning = lambda message, *_: print(f"lmaps-fast: {message}", file=sys.stderr)
            COMMANDS[arguments.command](arguments)
    except InputError as error:
        print(f"lmaps-fast: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0
