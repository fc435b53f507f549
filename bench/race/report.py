"""Tables and plots of a race's results."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from lmaps_fast.errors import InputError
from lmaps_fast.race.contenders import COLLAPSED, LOOP, PEER, PUBLISHED, WITHOUT
from lmaps_fast.race.run import Result

WINNER = "LMAPS, collapsed"
COLOURS = {COLLAPSED: "tab:red", LOOP: "tab:blue", PUBLISHED: "tab:gray", WITHOUT: "tab:green", PEER: "tab:orange"}
HEADINGS = (
    "solver",
    "network calls (with gradient)",
    "operator calls",
    "seconds",
    "beside the network",
    "PSNR / SSIM",
    "LMAPS is quicker by",
)


def by(results: Iterable[Result], key: str) -> dict[str, list[Result]]:
    """The results by the value of one of their fields, in the order of their first."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(getattr(result, key), []).append(result)
    return groups


def median(results: Sequence[Result], value: Callable[[Result], float]) -> float:
    return statistics.median(value(result) for result in results)


def ratio(results: Sequence[Result], winners: Sequence[Result]) -> float:
    """How many times longer they took than the winner did: the median over photographs of the ratio of medians."""
    fastest = by(winners, "photograph")
    ratios = []
    for photograph, runs in by(results, "photograph").items():
        if photograph in fastest:
            seconds = median(fastest[photograph], lambda r: r.seconds)
            ratios.append(median(runs, lambda r: r.seconds) / seconds)
    return statistics.median(ratios) if ratios else float("nan")


def quality(results: Sequence[Result]) -> str:
    """Means over photographs, those of the first round, as seeds make the others equal."""
    judged = [r for r in results if r.psnr is not None and r.round == 0]
    if not judged:
        return "-"
    values = [
        f"{statistics.fmean(getattr(r, name) for r in judged):.{digits}f}"
        for name, digits in (("psnr", 2), ("ssim", 3), ("lpips", 3))
        if getattr(judged[0], name) is not None
    ]
    return " / ".join(values)


def table(results: Sequence[Result], unequal: str | None = None) -> str:
    """The Markdown table of one task. unequal: what `parity` found; then no speed-up is told."""
    heading = [*HEADINGS[:-2], HEADINGS[-2] + " / LPIPS" * any(r.lpips is not None for r in results), HEADINGS[-1]]
    lines = ["| " + " | ".join(heading) + " |", "|---" * len(heading) + "|"]
    names = by(results, "name")
    winners = [] if unequal else names.get(WINNER, names.get("LMAPS, loop", []))
    for name, runs in sorted(names.items(), key=lambda item: median(item[1], lambda r: r.seconds)):
        part = "~" if any(r.share < 1 for r in runs) else ""
        gradients = median(runs, lambda r: r.gradient_calls)
        cells = [
            name,
            f"{median(runs, lambda r: r.network_calls):.0f}" + (f" ({gradients:.0f})" if gradients else ""),
            f"{median(runs, lambda r: r.operator_calls):.0f}",
            f"{part}{median(runs, lambda r: r.seconds):.2f}",
            f"{part}{median(runs, lambda r: r.seconds - r.network_seconds):.2f}",
            quality(runs),
            f"{part}{ratio(runs, winners):.1f}x" if winners and runs is not winners else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def summary(results: Sequence[Result], unequal: dict[str, str]) -> str:
    """Per task how much quicker LMAPS is than DAPS and SITCOM, and what it gains in PSNR: Markdown.

    Each is compared as published and at its quickest; PSNR on the photographs that both restored.
    """
    rivals = ("DAPS, as published", "DAPS, loop", "DAPS, collapsed", "SITCOM, as published", "SITCOM, loop")
    lines = ["| task | " + " | ".join(rivals) + " |", "|---" * (len(rivals) + 1) + "|"]
    for task, all_runs in by(results, "task").items():
        names = by(all_runs, "name")
        winners = names.get(WINNER, names.get("LMAPS, loop", []))
        cells = [f"{_compared(names.get(rival, []), winners, task in unequal)}" for rival in rivals]
        lines.append(f"| {task} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _compared(runs: Sequence[Result], winners: Sequence[Result], unequal: bool) -> str:
    if not runs or not winners or unequal:
        return "-"
    part = "~" if any(r.share < 1 for r in runs) else ""
    ours = {r.photograph: r.psnr for r in winners if r.psnr is not None}
    gains = [ours[r.photograph] - r.psnr for r in runs if r.round == 0 and r.psnr is not None and r.photograph in ours]
    gain = f", {statistics.fmean(gains):+.2f} dB" if gains else ""
    return f"{part}{ratio(runs, winners):.0f}x{gain}"


def plot(folder: Path, results: Sequence[Result]) -> list[Path]:
    """PSNR against seconds, and where the seconds go, one panel per task. Raises InputError without matplotlib."""
    plt = pyplot()
    tasks = by(results, "task")
    rows = -(-len(tasks) // 2)
    figure, axes = plt.subplots(rows, 2, figsize=(11, 3.6 * rows), squeeze=False, layout="constrained")
    for axis, (task, runs) in zip(axes.flat, tasks.items(), strict=False):
        for name, of_one in by(runs, "name").items():
            judged = [r.psnr for r in of_one if r.psnr is not None]
            if judged:
                at = (median(of_one, lambda r: r.seconds), statistics.fmean(judged))
                axis.scatter(*at, color=COLOURS[of_one[0].form], s=22)
                axis.annotate(name.partition(",")[0], at, xytext=(4, 3), textcoords="offset points", fontsize=7)
        axis.set(xscale="log", title=task, xlabel="seconds per photograph", ylabel="PSNR in dB")
        axis.grid(alpha=0.3)
    handles = [plt.Line2D([], [], marker="o", linestyle="", color=c, label=form) for form, c in COLOURS.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), fontsize=8)
    written = [_save(plt, figure, axes, len(tasks), folder / "psnr.png")]

    figure, axes = plt.subplots(rows, 2, figsize=(11, 3.6 * rows), squeeze=False, layout="constrained")
    for axis, (task, runs) in zip(axes.flat, tasks.items(), strict=False):
        ordered = sorted(by(runs, "name").items(), key=lambda item: median(item[1], lambda r: r.seconds))
        network = [median(of_one, lambda r: r.network_seconds) for _, of_one in ordered]
        rest = [median(of_one, lambda r: r.seconds - r.network_seconds) for _, of_one in ordered]
        names = [name for name, _ in ordered]
        # Bars in shares of their length, as no axis shows both .7 s and 1300 s; the seconds stand beside.
        for part, left, label, colour in (
            (network, [0.0] * len(names), "network", "tab:blue"),
            (rest, network, "all else", "tab:orange"),
        ):
            whole = [a + b for a, b in zip(network, rest, strict=True)]
            shares = [p / w for p, w in zip(part, whole, strict=True)]
            start = [p / w for p, w in zip(left, whole, strict=True)]
            axis.barh(names, shares, left=start, color=colour, label=label)
        for i, seconds in enumerate(whole):
            axis.text(1.01, i, f"{seconds:.3g} s", va="center", fontsize=6)
        axis.set(title=task, xlim=(0, 1.14), xlabel="share of the seconds")
        axis.tick_params(axis="y", labelsize=6)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize=8)
    return [*written, _save(plt, figure, axes, len(tasks), folder / "time.png")]


def pyplot() -> ModuleType:
    try:
        import matplotlib
    except ImportError:
        raise InputError("the plots need matplotlib: pip install matplotlib, or give --no-plot") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _save(plt: ModuleType, figure: Any, axes: Any, used: int, path: Path) -> Path:
    for axis in axes.flat[used:]:
        axis.set_axis_off()
    part = path.with_suffix(".part.png")
    figure.savefig(part, dpi=100)
    plt.close(figure)
    part.replace(path)
    return path
