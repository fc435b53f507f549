"""Hyper-parameters of LMAPS, per task: the paper's table, and what was measured for the embedded prior."""

from dataclasses import dataclass, fields, replace

from lmaps_fast.errors import InputError
from lmaps_fast.local_map import Weights

STARTS = ("noise", "measurement")


@dataclass(frozen=True)
class Preset:
    """steps N (network calls); inner_steps K, lr, k1, k2 of the local MAP; the noise range; rho (1: full renoise).

    start: what the first noise is added to. "noise": nothing, as in the paper, where sigma_max = 100 drowns everything;
    "measurement": y as an image (`Operator.preview`) where it is one, which a low sigma_max needs.
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
        values = {name: getattr(self, name) * factor for name in ("k1", "sigma_max", "sigma_min")}
        return replace(self, **values)

    def override(self, **values: float | str | None) -> "Preset":
        """A copy with those values that are not None. Raises InputError for a name that is none of its own."""
        names = {field.name for field in fields(self)}
        for name in values:
            if name not in names:
                raise InputError(f"unknown hyper-parameter {name!r}: choose among {', '.join(sorted(names))}")
        return replace(self, **{name: value for name, value in values.items() if value is not None})  # type: ignore[arg-type]


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

# Found on six 128x128 crops of training photographs, for 20 network calls of "natural": by bench/search_preset.py,
# and for JPEG by a random search from its result, at qualities 5 and 10 together.
# sigma_max of blur, random inpainting and denoising was then raised to the best value on six other crops of 160x160:
# the first six preferred starts so low that on other photographs holes stayed open.
NATURAL = {
    "super_resolution": Preset(20, 100, 0.05, 0.15, 20, sigma_max=3.0, sigma_min=0.05),
    "motion_deblurring": Preset(20, 100, 0.01, 0.25, 100, sigma_max=3.0, sigma_min=0.05),
    "phase_retrieval": Preset(20, 100, 0.1, 10, 0.3, sigma_max=10.0, sigma_min=0.05),
    "nonlinear_deblurring": Preset(20, 100, 0.02, 0.05, 1, sigma_max=3.0, sigma_min=0.05),
    "high_dynamic_range": Preset(20, 100, 0.04, 0.2, 10, sigma_max=3.0, sigma_min=0.05),
    "quantization": Preset(20, 20, 0.2, 0.5, 5, sigma_max=3.0, sigma_min=0.05),
    "gaussian_deblurring": Preset(20, 100, 0.04, 0.22, 25, sigma_max=1.2, sigma_min=0.012),
    "inpainting_box": Preset(20, 100, 0.08, 0.5, 12, sigma_max=12.0, sigma_min=0.031),
    "inpainting_random": Preset(20, 100, 0.16, 0.22, 6, sigma_max=1.2, sigma_min=0.05),
    "jpeg_restoration": Preset(20, 100, 0.05, 0.36, 20, sigma_max=0.86, sigma_min=0.02),
    "denoising": Preset(20, 100, 0.16, 0.22, 6, sigma_max=0.2, sigma_min=0.019),
}

TABLES = {"paper": PAPER, "natural": NATURAL}


def get(task: str, table: str = "paper") -> Preset:
    """The preset of a task in the table of that name, "paper" or "natural"."""
    if table not in TABLES:
        raise InputError(f"unknown preset {table!r}: choose one of {', '.join(TABLES)}")
    if task not in TABLES[table]:
        raise InputError(f"no preset for {task!r}: give one of {', '.join(TABLES[table])}, or a Preset of your own")
    return TABLES[table][task]
