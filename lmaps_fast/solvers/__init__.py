"""Samplers, one file per algorithm."""

from lmaps_fast.solvers.base import Level, Solver, State, Step
from lmaps_fast.solvers.daps import DAPS
from lmaps_fast.solvers.ddnm import DDNM
from lmaps_fast.solvers.ddrm import DDRM
from lmaps_fast.solvers.diffpir import DiffPIR
from lmaps_fast.solvers.dps import DPS
from lmaps_fast.solvers.lmaps import LMAPS
from lmaps_fast.solvers.pigdm import PiGDM
from lmaps_fast.solvers.sitcom import SITCOM
from lmaps_fast.solvers.tmpd import TMPD

REGISTRY: dict[str, type[Solver]] = {
    solver.name: solver for solver in (LMAPS, DAPS, SITCOM, DPS, PiGDM, TMPD, DDRM, DDNM, DiffPIR)
}

__all__ = ["LMAPS", "REGISTRY", "Level", "Solver", "State", "Step"]
