"""lmaps_fast: image restoration with a diffusion prior, by Local MAP Sampling at the cost of its network calls."""

from lmaps_fast import denoisers, graphs, local_map, metrics, operators, ops, presets, renoise, solvers
from lmaps_fast.dispatch import use_backend
from lmaps_fast.errors import InputError
from lmaps_fast.presets import Preset
from lmaps_fast.restore import Restorer, restore

__version__ = "0.1.0"

__all__ = [
    "InputError",
    "Preset",
    "Restorer",
    "denoisers",
    "graphs",
    "local_map",
    "metrics",
    "operators",
    "ops",
    "presets",
    "renoise",
    "restore",
    "solvers",
    "use_backend",
]
