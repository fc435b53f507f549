"""Samplers, one file per algorithm."""

from lmaps_fast.solvers.base import Solver, Step, sample
from lmaps_fast.solvers.lmaps import LMAPS

REGISTRY = {"lmaps": LMAPS}

__all__ = ["LMAPS", "REGISTRY", "Solver", "Step", "sample"]
