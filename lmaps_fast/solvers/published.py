"""Published settings of the solvers beside LMAPS, per task."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lmaps_fast.errors import InputError
from lmaps_fast.solvers import diffpir
from lmaps_fast.solvers.daps import DAPSSettings
from lmaps_fast.solvers.ddnm import DDNMSettings
from lmaps_fast.solvers.ddrm import DDRMSettings
from lmaps_fast.solvers.diffpir import DiffPIRSettings
from lmaps_fast.solvers.dps import DPSSettings
from lmaps_fast.solvers.pigdm import PiGDMSettings
from lmaps_fast.solvers.sitcom import SITCOMSettings
from lmaps_fast.solvers.tmpd import TMPDSettings


def hmc(inner_steps: int, lr: float, lr_min_ratio: float, momentum: float) -> DAPSSettings:
    """DAPS with Hamiltonian dynamics in place of Langevin's."""
    return DAPSSettings(200, inner_steps, lr, "hmc", lr_min_ratio, momentum)


# The public code's, for FFHQ 256x256 and 1000 network calls. Denoising, which nobody published, has the settings of the
# other tasks with noise .05; JPEG restoration and quantization, where A has no useful derivative, have none.
DAPS = {
    "super_resolution": DAPSSettings(200, 100, 1e-4),
    "inpainting_box": DAPSSettings(200, 100, 5e-5),
    "inpainting_random": DAPSSettings(200, 100, 1e-4),
    "gaussian_deblurring": DAPSSettings(200, 100, 1e-4),
    "motion_deblurring": DAPSSettings(200, 100, 5e-5),
    "phase_retrieval": DAPSSettings(200, 100, 5e-5),
    "nonlinear_deblurring": DAPSSettings(200, 200, 1e-5),
    "high_dynamic_range": DAPSSettings(200, 100, 2e-5),
    "denoising": DAPSSettings(200, 100, 1e-4),
}
DAPS_HMC = {
    "super_resolution": hmc(12, 1.04e-4, 0.012, 0.90),
    "inpainting_box": hmc(84, 1.15e-5, 0.014, 0.003),
    "inpainting_random": hmc(11, 3.56e-5, 0.015, 0.80),
    "gaussian_deblurring": hmc(82, 4.04e-5, 0.011, 0.10),
    "motion_deblurring": hmc(96, 3.69e-5, 0.010, 0.11),
    "phase_retrieval": hmc(62, 9.75e-6, 0.019, 0.73),
    "nonlinear_deblurring": hmc(85, 1.20e-5, 0.012, 0.46),
    "high_dynamic_range": hmc(100, 2.18e-5, 0.013, 0.23),
}

# The defaults of the public code, which are also what the paper of LMAPS compares with: 20 x 30 network calls.
SITCOM = {task: SITCOMSettings(project=task == "inpainting_box") for task in DAPS}

DPS_SCALE = {"inpainting_box": 0.5, "inpainting_random": 0.5, "phase_retrieval": 1.0}
DPS = {task: DPSSettings(scale=DPS_SCALE.get(task, 0.3)) for task in DAPS}

TABLES: dict[str, dict[str, Any]] = {"daps": DAPS, "daps_hmc": DAPS_HMC, "sitcom": SITCOM, "dps": DPS}


OWN_DEFAULTS: dict[str, Callable[[], Any]] = {
    "pigdm": PiGDMSettings,
    "tmpd": TMPDSettings,
    "ddrm": DDRMSettings,
    "ddnm": DDNMSettings,
}


def get(table: str, task: str, noise: float | None = None) -> Any:
    """The published settings of a solver (or of "daps_hmc") for one task.

    noise: standard deviation of the measurement's, where a solver takes it (`sigma_y`); the protocol's unless given.
    Raises InputError for a solver or a task without published settings.
    """
    if table in OWN_DEFAULTS:
        settings = OWN_DEFAULTS[table]()
    elif table == "diffpir":
        settings = diffpir.PUBLISHED.get(task, DiffPIRSettings())
    elif table not in TABLES:
        known = ", ".join((*TABLES, *OWN_DEFAULTS, "diffpir"))
        raise InputError(f"no published settings of {table!r}: choose one of {known}")
    elif task not in TABLES[table]:
        raise InputError(f"{table} has no published settings for {task!r}: give settings of your own")
    else:
        settings = TABLES[table][task]
    return replace(settings, sigma_y=noise) if noise is not None and hasattr(settings, "sigma_y") else settings
