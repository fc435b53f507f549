"""Restoration quality of every task on a folder of photographs of one size, at the protocol's noise.

    python bench/quality.py FOLDER [--tasks TASK ...] [--steps 20 100] [--pictures OUT.jpg --show STEM ...]

Prints a Markdown table of mean PSNR / SSIM / LPIPS of the degraded and the restored photographs, and draws for the
photographs named by --show a row of degraded, restored (with the first number of steps) and original per task.
"""

import argparse
import time
import warnings
from pathlib import Path

from torch import Tensor

import lmaps_fast as lf
from lmaps_fast import metrics
from lmaps_fast.apps import evaluate, plot

LPIPS = "alex"


def scores(x: Tensor | None, photos: Tensor, lpips: str | None) -> str:
    if x is None:
        return "-"
    values = [f"{metrics.psnr(x, photos).mean():.2f}", f"{metrics.ssim(x, photos).mean():.3f}"]
    if lpips:
        values.append(f"{metrics.lpips(x, photos, lpips).mean():.3f}")
    return " / ".join(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tasks", nargs="+", default=list(lf.operators.REGISTRY))
    parser.add_argument("--steps", nargs="+", type=int, default=[20, 100])
    parser.add_argument("--prior", default="natural")
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--show", nargs="+", default=[])
    arguments = parser.parse_args()
    names, photos = evaluate.of_one_size(arguments.folder)
    names = [Path(name).stem for name in names]
    prior, rows = lf.denoisers.load(arguments.prior), []
    reason = metrics.without_lpips(LPIPS)
    lpips = None if reason else LPIPS
    print(f"LPIPS is left out: {reason}" if reason else f"LPIPS: {metrics.LPIPS_VARIANTS[LPIPS].description}")
    warnings.simplefilter("ignore")  # of a nonlinear_deblurring without weights
    print("| task | degraded |" + "".join(f" N = {n} |" for n in arguments.steps) + " seconds per photograph |")
    print("|---" * (len(arguments.steps) + 3) + "|")
    for task in arguments.tasks:
        operator = lf.operators.create(task, tuple(photos.shape[1:]))
        y = operator.measure(photos)
        preview, restored, seconds = operator.preview(y), [], []
        for steps in arguments.steps:
            start = time.perf_counter()
            restored.append(lf.restore(y, operator, prior, steps=steps))
            seconds.append(f"{(time.perf_counter() - start) / len(photos):.1f}")
        cells = [scores(x, photos, lpips) for x in (preview, *restored)]
        print(f"| {task} | {' | '.join(cells)} | {', '.join(seconds)} |", flush=True)
        panels = []
        for i in (names.index(name) for name in arguments.show):
            for caption, x in (("degraded", preview), ("restored", restored[0]), ("original", photos)):
                if x is not None:
                    panels.append((f"{task}, {caption}" if not panels else caption, x[i : i + 1]))
        rows.append(panels)
    if arguments.pictures and arguments.show:
        plot.sheet(arguments.pictures, rows, quality=80)


if __name__ == "__main__":
    main()
