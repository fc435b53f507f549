"""PSNR of LMAPS over grids of its hyper-parameters, as Markdown and as heat maps; `ablation.py` runs it."""

import io
import math
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor

import lmaps_fast as lf
from lmaps_fast import metrics
from lmaps_fast.denoisers import Denoiser
from lmaps_fast.files import image
from lmaps_fast.operators import Operator

STEPS, INNER_STEPS = (5, 10, 20, 50, 100, 200), (1, 10, 20, 50, 100, 200)
FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the preset's k1 and k2

Grid = dict[str, Any]


def quickest_batch(prior: Denoiser, photos: Tensor, sigma: float) -> int:
    """All photographs at once, or one at a time: by which the network takes less time (the better of two calls)."""
    best = {}
    for size in (len(photos), 1):
        times = []
        for _ in range(3):
            start = time.perf_counter()
            prior(photos[:size], sigma)
            times.append(time.perf_counter() - start)
        best[size] = min(times[1:]) / size
    return min(best, key=best.__getitem__)


def network_calls(preset: lf.Preset, operator: Operator, photographs: int) -> dict[str, int]:
    """Network calls, counted per photograph, of the two grids around a preset."""
    counts = {"N x K": sum(STEPS) * len(INNER_STEPS), "k1 x k2": preset.steps * len(FACTORS) ** 2}
    return {name: count * photographs * operator.runs for name, count in counts.items()}


def grids(
    operator: Operator,
    prior: Denoiser,
    photos: Tensor,
    preset: lf.Preset,
    callback: Callable[[int], object] = lambda calls: None,
) -> dict[str, Grid]:
    """Mean PSNR in dB of photos [B, C, H, W] over N x K and k1 x k2, all else as in the preset, but lr k2 constant.

    Of each grid: rows and columns (name, values), psnr[row][column], network_calls, and batch, the photographs that are
    restored at once. callback gets the number of network calls after each restoration.
    """
    y, batch = operator.measure(photos), quickest_batch(prior, photos, preset.sigma_max)

    def score(trial: lf.Preset) -> float:
        restorer, total = lf.Restorer(operator, prior, preset=trial), 0.0
        for i in range(0, len(photos), batch):
            images = range(i, min(i + batch, len(photos)))
            x = restorer(y[i : i + batch], images=images)
            total += metrics.psnr(x, photos[i : i + batch]).sum().item()
            callback(len(images) * trial.steps * restorer.runs)
        return total / len(photos)

    k1, k2 = ([float(f"{value * factor:.3g}") for factor in FACTORS] for value in (preset.k1, preset.k2))
    counts = [[preset.override(steps=N, inner_steps=K) for K in INNER_STEPS] for N in STEPS]
    weights = [[preset.override(k1=a, k2=b, lr=preset.lr * preset.k2 / b) for b in k2] for a in k1]
    axes: dict[str, tuple[Sequence[float], Sequence[float], list[list[lf.Preset]]]] = {
        "N x K": (STEPS, INNER_STEPS, counts),
        "k1 x k2": (k1, k2, weights),
    }
    calls = network_calls(preset, operator, len(photos))
    out = {}
    for name, (rows, columns, trials) in axes.items():
        names = name.split(" x ")
        out[name] = {
            "rows": [names[0], list(rows)],
            "columns": [names[1], list(columns)],
            "psnr": [[score(trial) for trial in line] for line in trials],
            "network_calls": calls[name],
            "batch": batch,
        }
    return out


def markdown(grid: Grid) -> str:
    """A grid as a Markdown table, PSNR in dB."""
    (row_name, rows), (column_name, columns) = grid["rows"], grid["columns"]
    lines = [f"| {row_name} \\ {column_name} | " + " | ".join(f"{value:g}" for value in columns) + " |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for value, line in zip(rows, grid["psnr"], strict=True):
        lines.append(f"| {value:g} | " + " | ".join(f"{psnr:.2f}" for psnr in line) + " |")
    return "\n".join(lines)


def check_plot(path: Path) -> None:
    """Raise InputError unless a plot can be drawn to this path: before hours of measuring, not after them."""
    image.check_output(path, (".png",))
    try:
        import_module("matplotlib")
    except ImportError:
        raise lf.InputError("the plot needs matplotlib: pip install matplotlib") from None


def plot(path: Path, found: dict[str, dict[str, Grid]]) -> None:
    """Heat maps of the grids, a row per task, to a PNG file."""
    Figure = import_module("matplotlib.figure").Figure
    figure = Figure(figsize=(11, 4.6 * len(found)), layout="constrained")
    axes = figure.subplots(len(found), 2, squeeze=False)
    for line, (task, pair) in zip(axes, found.items(), strict=True):
        for ax, grid in zip(line, pair.values(), strict=True):
            (row_name, rows), (column_name, columns), psnr = grid["rows"], grid["columns"], grid["psnr"]
            shown = ax.imshow(psnr, origin="lower", aspect="auto")
            ax.set(title=task, xlabel=column_name, ylabel=row_name)
            ax.set_xticks(range(len(columns)), [f"{value:g}" for value in columns])
            ax.set_yticks(range(len(rows)), [f"{value:g}" for value in rows])
            for i, values in enumerate(psnr):
                for j, value in enumerate(values):
                    dark = math.isnan(value) or shown.norm(value) < 0.6
                    ax.text(j, i, f"{value:.2f}", ha="center", va="center", color="white" if dark else "black")
            figure.colorbar(shown, ax=ax, label="PSNR, dB")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    image.write_bytes(path, buffer.getvalue())
