"""`lmaps-fast train`: what `train` takes, as options of the command line."""

import argparse

from lmaps_fast.apps.evaluate import label
from lmaps_fast.apps.options import DEVICE, Options
from lmaps_fast.apps.training.session import train

TRAIN = Options(train, device=None)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    TRAIN.add_to(parser)
    DEVICE.add_to(parser)


def run(arguments: argparse.Namespace) -> None:
    """Train a prior on a folder of photographs."""
    figures = TRAIN.call(arguments, device=DEVICE.call(arguments))
    text = ", ".join(f"{label(sigma)} {value:.2f}" for sigma, value in figures.items())
    print(f"{arguments.out}: PSNR on held-out photographs {text}")
