"""Samplers, one file per algorithm."""

from typing import Any

from lmaps_fast.solvers.base import Solver, Step, sample
from lmaps_fast.solvers.daps import DAPS
from lmaps_fast.solvers.ddnm import DDNM
from lmaps_fast.solvers.ddrm import DDRM
from lmaps_fast.solvers.diffpir import DiffPIR
from lmaps_fast.solvers.dps import DPS
from lmaps_fast.solvers.lmaps import LMAPS
from lmaps_fast.solvers.pigdm import PiGDM
from lmaps_fast.solvers.sitcom import SITCOM
from lmaps_fast.solvers.tmpd import TMPD

# Each is called with (operator, denoiser, settings, backend).
REGISTRY: dict[str, Any] = {
    "lmaps": LMAPS,
    "daps": DAPS,
    "sitcom": SITCOM,
    "dps": DPS,
    "pigdm": PiGDM,
    "tmpd": TMPD,
    "ddrm": DDRM,
    "ddnm": DDNM,
    "diffpir": DiffPIR,
}

__all__ = ["LMAPS", "REGISTRY", "Solver", "Step", "sample"]
