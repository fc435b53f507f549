"""Solvers of other libraries on this project's denoisers, operators and measurements."""

from collections.abc import Callable
from importlib import import_module

from lmaps_fast.denoisers import Denoiser
from lmaps_fast.errors import InputError
from lmaps_fast.operators import JpegRestoration, Linear, Operator, Quantization
from lmaps_fast.race import peers_azula, peers_deepinv
from lmaps_fast.race.peers_adapters import Peer
from lmaps_fast.solvers.ddpm import LEAST_NOISE

ROUNDING = JpegRestoration | Quantization


def peers(
    operator: Operator, denoiser: Denoiser, steps: int | None = None, noise: float | None = None
) -> dict[str, Peer | str]:
    """The solvers of deepinv and azula for an operator, by name; for one that cannot run here, the reason.

    steps: steps of every solver, those that the library or the paper publishes unless given (at least 3: some
    schedules need as many). noise: standard deviation of the measurement's, the operator's protocol unless given; at
    least 1e-3, since the libraries divide by it. Libraries are imported here, and only those that are installed.
    Raises InputError for fewer steps.
    """
    if steps is not None and steps < 3:
        raise InputError(f"steps must be at least 3, not {steps}")
    return {name: build(name, operator, denoiser, steps, noise) for name in SOLVERS}


def build(
    name: str, operator: Operator, denoiser: Denoiser, steps: int | None = None, noise: float | None = None
) -> Peer | str:
    """One of `peers`."""
    level = max(operator.noise if noise is None else noise, LEAST_NOISE)
    library = name.split()[0]
    solver, unfit = SOLVERS[name]
    reason = missing(library) or unfit(operator)
    return reason or solver(operator, denoiser, level, steps)


def missing(library: str) -> str:
    """Why a library cannot be imported, or nothing."""
    try:
        import_module(f"{library}.sampling" if library == "deepinv" else f"{library}.guidance")
    except (ImportError, RuntimeError) as error:  # torchvision for another torch raises the latter
        return f"{library} cannot be imported ({error}): pip install {library}"
    return ""


def no_derivative(operator: Operator) -> str:
    if isinstance(operator, ROUNDING):
        return f"{operator.name} rounds, so that the derivative it takes along is 0 everywhere"
    return ""


def not_linear(operator: Operator) -> str:
    return "" if isinstance(operator, Linear) else f"it needs a linear A, unlike {operator.name}"


def no_spectrum(operator: Operator) -> str:
    return "" if "spectrum" in operator.can else f"it needs the singular values of A, unknown for {operator.name}"


def no_inverse(operator: Operator) -> str:
    if "spectrum" in operator.can or isinstance(operator, ROUNDING):
        return ""
    return f"it needs a pseudo-inverse of A, unknown for {operator.name}"


# What makes each, and what tells why it cannot.
SOLVERS: dict[str, tuple[Callable[..., Peer], Callable[[Operator], str]]] = {
    "deepinv DPS": (peers_deepinv.dps, no_derivative),
    "deepinv DDRM": (peers_deepinv.ddrm, no_spectrum),
    "deepinv DiffPIR": (peers_deepinv.diffpir, not_linear),
    "azula DPS": (peers_azula.dps, no_derivative),
    "azula PiGDM": (peers_azula.pigdm, no_inverse),
    "azula DiffPIR": (peers_azula.diffpir, not_linear),
    "azula TMPD": (peers_azula.tmpd, not_linear),
}

__all__ = ["Peer", "peers"]
