"""Noise levels, from high to low."""

from lmaps_fast.errors import InputError


def polynomial(steps: int, sigma_max: float, sigma_min: float, exponent: float = 7.0) -> list[float]:
    """sigma_i = (max^{1/p} + i/N (min^{1/p} - max^{1/p}))^p for i = 0..N-1, then 0: N + 1 levels.

    The last level before 0 is one step above sigma_min, as in the DAPS schedule that the paper follows.
    """
    if steps < 1:
        raise InputError(f"steps must be at least 1, not {steps}")
    if not 0 < sigma_min < sigma_max:
        raise InputError(f"noise levels need 0 < sigma_min < sigma_max, not {sigma_min} and {sigma_max}")
    high, low = sigma_max ** (1 / exponent), sigma_min ** (1 / exponent)
    return [(high + i / steps * (low - high)) ** exponent for i in range(steps)] + [0.0]
