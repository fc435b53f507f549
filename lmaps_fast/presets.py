"""Hyper-parameters of LMAPS. The tables of each task stand with the task."""

import math
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import numpy as np

from lmaps_fast.errors import InputError
from lmaps_fast.weights import Weights

Settings = TypeVar("Settings")

STARTS = ("noise", "measurement")
LEAST_SIGMA = 0.004  # of the noise that "natural" was trained on


@dataclass(frozen=True)
class Preset:
    """Hyper-parameters of LMAPS.

    Args:
        steps: N, network calls, at least 1.
        inner_steps: K, gradient steps of each local MAP, at least 1.
        lr: their size, positive.
        k1: scale of the trust region, not negative: lam = k1^2 / (k1^2 + sigma^2).
        k2: scale of the data term, not negative.
        sigma_max, sigma_min: the range of noise levels, sigma_max > sigma_min > 0; default 100 to .1.
        rho: share of new noise in each renoising, 0 to 1; default 1.
        start: what the first noise is added to. "noise" (default): nothing, as in the paper, where sigma_max = 100
            drowns everything; "measurement": `Operator.first_guess(y)`, in most tasks y itself, which a low sigma_max
            needs.

    Errors: InputError outside these ranges.
    Source: Table 4 of arXiv 2510.07343.
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
        for name in ("steps", "inner_steps"):
            whole(name, getattr(self, name))
        for name, least, most in (("lr", 0.0, math.inf), ("k1", 0.0, math.inf), ("k2", 0.0, math.inf)):
            value = getattr(self, name)
            if not least <= value < most or (name == "lr" and value == 0):
                raise InputError(
                    f"{name} must be finite and {'positive' if name == 'lr' else 'not negative'}, not {value}"
                )
        if not 0 <= self.rho <= 1:
            raise InputError(f"rho must be between 0 and 1, not {self.rho}")

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


def whole(name: str, value: object, least: int = 1) -> None:
    """Raise InputError unless the value is a whole number, at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InputError(f"{name} must be a whole number, at least {least}, not {value!r}")


def override(settings: Settings, **values: object) -> Settings:
    """A copy of a solver's settings, a dataclass, with those values that are not None. Raises InputError for a name
    that is none of its own."""
    names = {field.name for field in fields(settings)}  # type: ignore[arg-type]
    for name in values:
        if name not in names:
            raise InputError(f"unknown hyper-parameter {name!r}: choose among {', '.join(sorted(names))}")
    return replace(settings, **{name: value for name, value in values.items() if value is not None})  # type: ignore[type-var]


def scaled_to(preset: Preset, severity: float, noise: float | None, protocol: float, task: str) -> Preset:
    """A preset that was measured at the protocol's settings, for one operator and its measurement noise.

    Args:
        severity: how large the errors of a measurement without noise are relative to the protocol's.
        noise: standard deviation of the measurement's noise; None: the protocol's.
        protocol: that of the protocol.

    Errors: InputError where the preset is for measurements without noise and there is some.
    """
    preset = preset.scaled(severity)
    if noise is not None and noise != protocol:
        if protocol == 0:
            raise InputError(f"the preset of {task} is for measurements without noise: leave noise out")
        preset = preset.for_noise(noise / protocol)
    return replace(
        preset, sigma_min=max(preset.sigma_min, LEAST_SIGMA), sigma_max=max(preset.sigma_max, 2 * LEAST_SIGMA)
    )
