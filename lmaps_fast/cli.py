"""The command line: lmaps-fast restore | degrade | info."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor
from tqdm import tqdm

from lmaps_fast import Restorer, __version__, denoisers, image, info, metrics, operators, plot
from lmaps_fast.denoisers import Denoiser
from lmaps_fast.errors import InputError
from lmaps_fast.operators import Operator, jpeg_file
from lmaps_fast.operators.jpeg_restoration import JpegRestoration

# Options that are parameters of tasks: the operator says which of them it takes.
TASK_OPTIONS: dict[str, dict] = {
    "mask": {"metavar": "FILE", "help": "inpainting: an image, white where pixels are known"},
    "missing": {
        "type": float,
        "metavar": "P",
        "help": "inpainting_random: share of missing pixels (drawn: .70 to .71)",
    },
    "std": {"type": float, "metavar": "PIXELS", "help": "gaussian_deblurring: standard deviation of the blur (3)"},
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
    restore.add_argument("--solver", default="lmaps")
    restore.add_argument("--prior", default="natural", metavar="P", help="name or safetensors file (natural)")
    restore.add_argument("--preset", help="table of hyper-parameters: paper or natural (the prior's own)")
    restore.add_argument("--device", help="cpu or cuda (a GPU if there is one)")
    restore.add_argument("--backend", help="cuda, triton, cpu, torch or reference (the quickest that can run)")
    restore.add_argument("--metrics", type=Path, metavar="REF", help="print the PSNR against this original")
    restore.add_argument("--plot", action="store_true", help="also write OUT.plot.png: degraded | restored | original")

    degrade = commands.add_parser("degrade", help="make a degraded image, to try a task on")
    degrade.add_argument("input", type=Path, metavar="IN")
    degrade.add_argument("-o", "--output", required=True, type=Path, metavar="OUT")
    degrade.add_argument("--noise", type=float, metavar="STD", help="of the scale [-1, 1] (.05; JPEG: 0)")

    for command in (restore, degrade):
        command.add_argument("--task", required=True, metavar="NAME", help=", ".join(operators.REGISTRY))
        command.add_argument("--seed", type=int, default=0, metavar="K", help="of the noise (0)")
        command.add_argument("--operator-seed", type=int, default=0, metavar="K", help="of a drawn mask (0)")
        for name, options in TASK_OPTIONS.items():
            command.add_argument(f"--{name}", **options)
    commands.add_parser("info", help="say what is installed and what runs here")
    return parser


def make_operator(arguments: argparse.Namespace, shape: Sequence[int], device: str = "cpu") -> Operator:
    given = {name: getattr(arguments, name) for name in TASK_OPTIONS if getattr(arguments, name) is not None}
    return operators.create(arguments.task, shape, seed=arguments.operator_seed, device=device, **given)


def load(path: Path, arguments: argparse.Namespace, device: str) -> tuple[Operator, Tensor, image.Picture, int]:
    """The operator, its measurement, the degraded picture upright, and the EXIF orientation still to be applied."""
    if arguments.task == JpegRestoration.name and arguments.quality is None:
        file = jpeg_file.read(path)
        from_file, y = JpegRestoration.from_file(file, device=device)
        return from_file, y, image.Picture(image.upright(y.cpu(), file.orientation)), file.orientation
    picture = image.read(path)
    operator = make_operator(arguments, picture.pixels.shape[1:], device)
    y = picture.pixels.to(device)
    if isinstance(operator, JpegRestoration):
        y = operator(y)  # back on the lattice of the quantizer, which the rounding of pixels has left
    return operator, y, picture, 1


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
    operator, y, degraded, orientation = load(source, arguments, device)
    if reference is not None and reference.shape != degraded.pixels.shape:
        shapes = " and ".join(f"{list(t.shape[1:])}" for t in (reference, degraded.pixels))
        raise InputError(f"{arguments.metrics} and {source} differ in channels or size, {shapes}: give the original")
    restorer = Restorer(operator, prior, arguments.solver, arguments.steps, arguments.preset, arguments.backend)
    start = time.perf_counter()
    with tqdm(total=restorer.preset.steps, desc=source.name, unit="step", leave=False, disable=None) as bar:
        restored = restorer(y, seed=arguments.seed, callback=lambda _: bar.update())
    pixels = image.upright(restored.cpu(), orientation)
    seconds = time.perf_counter() - start
    image.write(target, degraded.with_pixels(pixels))
    height, width = pixels.shape[2:]
    print(f"{target}: {width}x{height}, {restorer.preset.steps} network calls, {seconds:.1f} s")
    panels = [("degraded", degraded.pixels), ("restored", pixels)]
    if reference is not None:
        values = [metrics.psnr(panel, reference).item() for _, panel in panels]
        print(f"PSNR: degraded {values[0]:.2f} dB, restored {values[1]:.2f} dB")
        panels = [(f"{name}, {value:.2f} dB", panel) for (name, panel), value in zip(panels, values, strict=True)]
        panels.append(("original", reference))
    if arguments.plot:
        path = target.with_suffix(".plot.png")
        plot.side_by_side(path, panels)
        print(path)


def run_degrade(arguments: argparse.Namespace) -> None:
    operators.parameters(arguments.task)
    image.check_output(arguments.output)
    picture = image.read(arguments.input)
    operator = make_operator(arguments, picture.pixels.shape[1:])
    if isinstance(operator, JpegRestoration) and image.FORMATS[arguments.output.suffix.lower()] == "JPEG":
        # A real JPEG file: its own quantization is the degradation.
        quality = 5 if arguments.quality is None else arguments.quality
        image.write(arguments.output, picture, quality=quality, subsampling="4:2:0")
    else:
        y = operator.measure(picture.pixels, arguments.noise, arguments.seed)
        image.write(arguments.output, picture.with_pixels(y))
    print(arguments.output)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 for success, 2 after one sentence on standard error for bad input."""
    try:
        arguments = build_parser().parse_args(argv)
        if arguments.command == "restore":
            run_restore(arguments)
        elif arguments.command == "degrade":
            run_degrade(arguments)
        else:
            print(info.report())
    except InputError as error:
        print(f"lmaps-fast: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0
