"""lmaps_fast: image restoration with a diffusion prior, by Local MAP Sampling at the cost of its network calls."""

from lmaps_fast import denoisers, local_map, metrics, noise, operators, ops, presets, solvers
from lmaps_fast.engine import graphs
from lmaps_fast.engine.restorer import Restorer, restore
from lmaps_fast.errors import InputError
from lmaps_fast.ops import use_backend
from lmaps_fast.presets import Preset

__version__ = "0.1.0"

__all__ = [
    "InputError",
    "Preset",
    "Restorer",
    "denoisers",
    "graphs",
    "local_map",
    "metrics",
    "noise",
    "operators",
    "ops",
    "presets",
    "restore",
    "solvers",
    "use_backend",
]
