"""Hyper-parameters of LMAPS, per task: the paper's table, and what was measured for the embedded prior."""

import math
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, TypeVar

from lmaps_fast.errors import InputError
from lmaps_fast.local_map import Weights

if TYPE_CHECKING:
    from lmaps_fast.operators.base import Operator

Settings = TypeVar("Settings")

STARTS = ("noise", "measurement")


@dataclass(frozen=True)
class Preset:
    """steps N (network calls); inner_steps K, lr, k1, k2 of the local MAP; the noise range; rho (1: full renoise).

    start: what the first noise is added to. "noise": nothing, as in the paper, where sigma_max = 100 drowns everything;
    "measurement": `Operator.first_guess(y)`, in most tasks y itself, which a low sigma_max needs.
    """

    steps: int
    inner_steps: int
    lr: float
    k1: float
    k2: float
    sigma_max: float = 100.0
    sigma_min: float = 0.1
    rho: float = 1.0
    start: str = "noise"

    def __post_init__(self) -> None:
        if self.start not in STARTS:
            raise InputError(f"unknown start {self.start!r}: choose one of {', '.join(STARTS)}")

    def weights(self, sigma: float) -> Weights:
        """lam = k1^2 / (k1^2 + sigma^2): from the measurement at high noise to the prior at low noise."""
        lam = self.k1**2 / (self.k1**2 + sigma**2)
        return Weights(lam=lam, k2=self.k2, lr=self.lr, steps=self.inner_steps)

    def scaled(self, factor: float) -> "Preset":
        """The same for a degradation whose errors are `factor` times as large: k1 and the noise levels follow."""
        return replace(self, k1=self.k1 * factor, sigma_max=self.sigma_max * factor, sigma_min=self.sigma_min * factor)

    def for_noise(self, ratio: float) -> "Preset":
        """The same for measurement noise `ratio` times as strong: k1 and sigma_min follow, sigma_max upwards only.

        Below a tenth nothing changes further.
        """
        ratio = max(ratio, 0.1)
        return replace(
            self,
            k1=self.k1 * ratio,
            sigma_min=self.sigma_min * ratio,
            sigma_max=self.sigma_max * max(ratio, 1.0),
        )

    def override(self, **values: float | str | None) -> "Preset":
        """A copy with those values that are not None. Raises InputError for a name that is none of its own."""
        return override(self, **values)


def override(settings: Settings, **values: object) -> Settings:
    """A copy of a solver's settings, a dataclass, with those values that are not None. Raises InputError for a name
    that is none of its own."""
    names = {field.name for field in fields(settings)}  # type: ignore[arg-type]
    for name in values:
        if name not in names:
            raise InputError(f"unknown hyper-parameter {name!r}: choose among {', '.join(sorted(names))}")
    return replace(settings, **{name: value for name, value in values.items() if value is not None})  # type: ignore[type-var]


# Table 4 of arXiv 2510.07343. It has no row for denoising: those weights are the ones of the other noise-.05 tasks.
PAPER = {
    "super_resolution": Preset(200, 100, 0.05, 0.15, 20),
    "inpainting_box": Preset(200, 100, 0.02, 0.5, 50),
    "inpainting_random": Preset(200, 100, 0.01, 0.22, 100),
    "gaussian_deblurring": Preset(200, 100, 0.01, 0.22, 100),
    "motion_deblurring": Preset(200, 100, 0.01, 0.25, 100),
    "phase_retrieval": Preset(200, 100, 0.1, 10, 0.3),
    "nonlinear_deblurring": Preset(200, 100, 0.02, 0.05, 1),
    "high_dynamic_range": Preset(200, 100, 0.04, 0.2, 10),
    "jpeg_restoration": Preset(200, 100, 0.2, 0.5, 5),
    "quantization": Preset(200, 20, 0.2, 0.5, 5),
    "denoising": Preset(200, 100, 0.01, 0.22, 100),
}

# Found on crops of training photographs for 20 network calls of "natural": by bench/search_preset.py, on ten crops of
# 144x144 (`--photos 10 --size 144`); phase retrieval by a grid over k1, lr k2, sigma_max and sigma_min on six of 96x96.
# Then lr was lowered to 1 / (k2 |A|^2) at most, so that the steps converge at every noise level. sigma_max of
# inpainting and of high dynamic range was set on other crops, the latter and that of boxes on eleven of 256x256: with
# less, holes stay open; with more, large holes drift off over many calls.
# Nonlinear deblurring, whose real network is not here to tune on, has the paper's weights with fewer, longer steps.
NATURAL = {
    "super_resolution": Preset(20, 100, 0.05, 0.15, 20, 0.24, 0.012, start="measurement"),
    "inpainting_box": Preset(20, 100, 0.04, 0.5, 25, 5.0, 0.019, start="measurement"),
    "inpainting_random": Preset(20, 100, 0.08, 0.22, 12, 1.5, 0.019, start="measurement"),
    "gaussian_deblurring": Preset(20, 100, 0.02, 0.22, 50, 0.39, 0.012, start="measurement"),
    "motion_deblurring": Preset(20, 100, 0.02, 0.25, 50, 0.15, 0.012, start="measurement"),
    "phase_retrieval": Preset(20, 100, 0.1, 0.3, 30, 10.0, 0.05),
    "nonlinear_deblurring": Preset(20, 10, 0.2, 0.05, 1, 1.0, 0.03, start="measurement"),
    "high_dynamic_range": Preset(20, 100, 0.1, 0.2, 2.5, 0.15, 0.03, start="measurement"),
    "jpeg_restoration": Preset(20, 100, 0.1, 0.5, 10, 0.15, 0.019, start="measurement"),
    "quantization": Preset(20, 20, 0.013, 0.12, 80, 0.39, 0.048, start="measurement"),
    "denoising": Preset(20, 100, 0.08, 0.22, 12, 0.094, 0.012, start="measurement"),
}

LEAST_SIGMA = 0.004  # of the noise that "natural" was trained on

TABLES = {"paper": PAPER, "natural": NATURAL}


def get(task: str, table: str = "paper") -> Preset:
    """The preset of a task in the table of that name, "paper" or "natural"."""
    if table not in TABLES:
        raise InputError(f"unknown preset {table!r}: choose one of {', '.join(TABLES)}")
    if task not in TABLES[table]:
        raise InputError(f"no preset for {task!r}: give one of {', '.join(TABLES[table])}, or a Preset of your own")
    return TABLES[table][task]


def fitting(operator: "Operator", table: str, noise: float | None = None) -> Preset:
    """The preset for one operator and its measurement noise (the protocol's unless given).

    The paper's table is constant. One that was measured at the protocol's settings is scaled to how severe the operator
    is and how strong the noise.
    """
    preset = get(operator.name, table)
    if noise is not None and not 0 <= noise < math.inf:
        raise InputError(f"noise must be finite and not negative, not {noise}")
    if table == "paper":
        return preset
    preset = preset.scaled(operator.severity)
    if noise is not None and noise != operator.noise:
        if operator.noise == 0:
            raise InputError(f"the preset of {operator.name} is for measurements without noise: leave noise out")
        preset = preset.for_noise(noise / operator.noise)
    return replace(
        preset, sigma_min=max(preset.sigma_min, LEAST_SIGMA), sigma_max=max(preset.sigma_max, 2 * LEAST_SIGMA)
    )
