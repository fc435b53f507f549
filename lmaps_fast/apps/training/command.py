"""The options of `lmaps-fast train`."""

import argparse
import inspect
from pathlib import Path

import torch

from lmaps_fast.apps.evaluate import label
from lmaps_fast.apps.training.session import BLOCKS, CHANNELS, train


def widths(text: str) -> tuple[int, ...]:
    """64,128,192 as a tuple. Raises ValueError for other text, as argparse expects."""
    return tuple(int(part) for part in text.split(","))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command, whose work is `run`."""
    parser.add_argument("--images", required=True, type=Path, metavar="DIR", help="folder of photographs")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help=".safetensors; goes on from FILE.state")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--steps", type=int, metavar="N", help="length of the run in steps")
    length.add_argument("--minutes", type=float, metavar="M", help="or in minutes, counted over interruptions")
    parser.add_argument("--start", type=Path, metavar="FILE", help="weights to begin from (random ones)")
    parser.add_argument("--teacher", type=Path, metavar="FILE", help="ffdnet_color.pth, to learn from it as well")
    parser.add_argument("--batch", type=int, default=16, metavar="B", help="crops per step (16)")
    parser.add_argument("--crop", type=int, default=64, metavar="PIXELS", help="side, a multiple of 8 (64)")
    parser.add_argument("--learning-rate", type=float, default=1.2e-3, metavar="R", help="its largest value (.0012)")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="K", help="of crops and noise; a new one with --start (0)"
    )
    parser.add_argument("--channels", type=widths, default=CHANNELS, metavar="A,B,C", help="widths (64,128,192)")
    parser.add_argument("--blocks", type=int, default=BLOCKS, metavar="N", help="residual blocks per stage (2)")
    parser.add_argument("--half", action="store_true", help="write float16")
    parser.add_argument("--checkpoint-minutes", type=float, default=5.0, metavar="M", help="between checkpoints (5)")
    parser.add_argument("--device", help="cpu or cuda (a GPU if there is one)")


def run(arguments: argparse.Namespace) -> None:
    """Train, and print the result. arguments: of `add_arguments`; others are ignored."""
    options = {name: value for name, value in vars(arguments).items() if name in inspect.signature(train).parameters}
    options["device"] = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    figures = train(**options)
    text = ", ".join(f"{label(sigma)} {value:.2f}" for sigma, value in figures.items())
    print(f"{arguments.out}: PSNR on held-out photographs {text}")
