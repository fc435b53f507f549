"""Training a prior of the kind of "natural" on a folder of photographs."""

from lmaps_fast.apps.training.command import add_arguments, run
from lmaps_fast.apps.training.session import train

__all__ = ["add_arguments", "run", "train"]
