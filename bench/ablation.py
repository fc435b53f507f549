"""The paper's efficiency table and an ablation of the hyper-parameters, on a folder of photographs of one size.

    python bench/ablation.py FOLDER [--prior natural] [--only table|grid] [--json OUT.json] [--plot OUT.png]

Table: seconds per photograph, one at a time on the CPU, and PSNR / SSIM at the paper's pairs of N network calls and K
gradient steps, by the collapsed form and by the loop of K steps (backend "reference"), with the prior's preset and with
the paper's weights and noise levels, beside the paper's own figures. Runs are interleaved and follow a warm-up.
Grid: mean PSNR over N x K, all else as in the preset, and over k1 x k2 around the preset. lr follows k2 so that lr k2,
the length of the data step, stays: a longer one would diverge. The axes are this project's choice: those of the paper's
own ablation (Fig. 4) are not known here.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ablation_grid
import torch
from torch import Tensor
from tqdm import tqdm

import lmaps_fast as lf
from lmaps_fast import metrics
from lmaps_fast.apps import evaluate
from lmaps_fast.denoisers import Denoiser
from lmaps_fast.files import image
from lmaps_fast.operators import Operator
from lmaps_fast.race import machine

# (N, K): the seconds per image and the PSNR that arXiv 2510.07343 reports, which are of Gaussian deblurring.
PUBLISHED = {
    (200, 100): (61, 30.88),
    (100, 10): (6, 30.00),
    (20, 100): (6, 30.64),
    (100, 20): (6, 30.43),
    (20, 20): (2, 29.91),
}
PUBLISHED_TASK = "gaussian_deblurring"
SAME = 0.05  # dB, between two PSNR of one result: rounding alone came to .01, through a network in bfloat16
MOST_STEPS, MOST_HELP = 5000, "gradient steps N K beyond which the loop runs on the first photograph only"
FORMS: dict[str, str | None] = {"collapsed": None, "loop": "reference"}

Row = dict[str, Any]


def settings(operator: Operator, prior: Denoiser) -> dict[str, lf.Preset]:
    """The prior's preset and the paper's, by name; one of them where they are the same."""
    names = dict.fromkeys((getattr(prior, "preset", "paper"), "paper"))
    return {name: operator.preset(name) for name in names}


def ssim(x: Tensor, photo: Tensor) -> float:
    """SSIM of one photograph, NaN where scikit-image is missing."""
    try:
        return metrics.ssim(x, photo).item()
    except lf.InputError:
        return math.nan


def explain_ssim() -> None:
    """Print why there is no SSIM, if so."""
    blank = torch.zeros(1, 3, 16, 16)
    try:
        metrics.ssim(blank, blank)
    except lf.InputError as error:
        print(f"SSIM is left out: {error}")


def efficiency(
    operator: Operator,
    prior: Denoiser,
    photos: Tensor,
    chosen: dict[str, lf.Preset],
    rounds: int = 1,
    most_steps: int = MOST_STEPS,
    callback: Callable[[], object] = lambda: None,
) -> list[Row]:
    """A row for each preset in chosen and each (N, K) of PUBLISHED. callback is called after each restoration.

    speed_up: the median ratio of the loop's to the collapsed form's seconds over the runs that both made, and None
    unless the PSNR of the two differs by at most SAME in each of these.
    """
    y = operator.measure(photos)
    runs: dict[tuple, dict[str, lf.Restorer]] = {}
    for name, preset in chosen.items():
        for backend in FORMS.values():
            short = preset.override(steps=2, inner_steps=2)
            lf.Restorer(operator, prior, preset=short, backend=backend)(y[:1])
        for N, K in PUBLISHED:
            changed = preset.override(steps=N, inner_steps=K)
            runs[name, N, K] = {f: lf.Restorer(operator, prior, preset=changed, backend=b) for f, b in FORMS.items()}
    records: dict[tuple, dict[str, list]] = {key: {form: [] for form in FORMS} for key in runs}
    for _ in range(rounds):
        for i, photo in enumerate(photos[:, None]):
            for key, restorers in runs.items():
                for form, restorer in restorers.items():
                    if form == "loop" and i and key[1] * key[2] > most_steps:
                        continue
                    start = time.perf_counter()
                    x = restorer(y[i : i + 1], images=[i])
                    seconds = time.perf_counter() - start
                    records[key][form].append((seconds, metrics.psnr(x, photo).item(), ssim(x, photo)))
                    callback()
    return [_row(operator.name, *key, found, rounds) for key, found in records.items()]


def _row(task: str, name: str, N: int, K: int, found: dict[str, list], rounds: int) -> Row:
    row: Row = {"settings": name, "N": N, "K": K}
    for form, values in found.items():
        seconds, psnr, similarity = zip(*values, strict=True)
        row[form] = {
            "seconds": statistics.median(seconds),
            "psnr": statistics.fmean(psnr),
            "ssim": statistics.fmean(similarity),
            "photographs": len(values) // rounds,
        }
    # Photographs come in the same order, so where the loop made fewer runs its round holds the first of each.
    stride = len(found["collapsed"]) // len(found["loop"])
    pairs = list(zip(found["collapsed"][::stride], found["loop"], strict=True))
    row["psnr_difference"] = max(abs(a[1] - b[1]) for a, b in pairs)
    same = all(abs(a[1] - b[1]) <= SAME for a, b in pairs)  # false where one is NaN
    row["speed_up"] = statistics.median(b[0] / a[0] for a, b in pairs) if same else None
    seconds, psnr = PUBLISHED[N, K] if task == PUBLISHED_TASK else (None, None)
    row["published"] = {"seconds": seconds, "psnr": psnr}
    return row


def table(rows: list[Row], photographs: int) -> str:
    """The rows as Markdown."""
    head = "settings | N, K | collapsed: s | PSNR / SSIM | loop: s | PSNR / SSIM | loop / collapsed | paper: s | PSNR"
    lines = [f"| {head} |", "|---" * (head.count("|") + 1) + "|"]
    for row in rows:
        cells = [row["settings"], f"{row['N']}, {row['K']}"]
        for form in FORMS:
            v = row[form]
            of = "" if v["photographs"] == photographs else f" ({v['photographs']} of {photographs})"
            similarity = "-" if math.isnan(v["ssim"]) else f"{v['ssim']:.3f}"
            cells += [f"{v['seconds']:.2f}", f"{v['psnr']:.2f} / {similarity}{of}"]
        cells.append("results differ" if row["speed_up"] is None else f"{row['speed_up']:.1f}")
        published = row["published"]
        cells += ["-", "-"] if published["psnr"] is None else [str(published["seconds"]), f"{published['psnr']:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    difference = max(row["psnr_difference"] for row in rows)
    return "\n".join(lines) + (
        f"\n\nCollapsed and loop differ by at most {difference:.1g} dB on a photograph. Seconds: median. The paper's "
        "figures are of other hardware, another prior and other photographs."
    )


def finite(value: Any) -> Any:
    """The same for JSON, which has no NaN and no infinity: None instead."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def save(path: Path | None, result: Row) -> None:
    """Write what was measured so far, whole or not at all, where a file was asked for."""
    if path:
        image.write_bytes(path, (json.dumps(finite(result), indent=1, allow_nan=False) + "\n").encode())


def run(arguments: argparse.Namespace) -> None:
    """Measure, print and write what the command line asks for."""
    if arguments.rounds < 1:
        raise lf.InputError(f"--rounds must be at least 1, not {arguments.rounds}")
    if arguments.json:
        image.check_output(arguments.json, (".json",))
    if arguments.plot:
        if arguments.only == "table":
            raise lf.InputError("--plot draws the grids: leave --only table out")
        ablation_grid.check_plot(arguments.plot)
    about = machine.describe()
    names, photos = evaluate.of_one_size(arguments.folder, arguments.photographs, arguments.crop)
    prior = lf.denoisers.load(arguments.prior)
    result: Row = {"machine": about, "prior": arguments.prior, "photographs": names, "shape": list(photos.shape[1:])}
    result |= {"rounds": arguments.rounds, "unit": "dB and seconds", "settings": {}, "table": {}, "grids": {}}
    size = f"{photos.shape[3]}x{photos.shape[2]}"
    print(f"{machine.line(about)}\nphotographs: {len(names)} of {size}; prior: {arguments.prior}")
    if arguments.only != "grid":
        explain_ssim()
    for task in arguments.tasks:
        operator = lf.operators.create(task, tuple(photos.shape[1:]))
        chosen = settings(operator, prior)
        result["settings"][task] = {name: asdict(preset) for name, preset in chosen.items()}
        if arguments.only != "grid":
            total = arguments.rounds * len(PUBLISHED) * len(chosen) * len(FORMS) * len(photos)
            with tqdm(total=total, desc=f"{task}, at most", unit="run", leave=False, disable=None) as bar:
                limits = {"rounds": arguments.rounds, "most_steps": arguments.most_steps}
                rows = efficiency(operator, prior, photos, chosen, callback=bar.update, **limits)
            result["table"][task] = rows
            save(arguments.json, result)
            print(f"\n{task}\n\n{table(rows, len(photos))}", flush=True)
        if arguments.only != "table":
            preset = next(iter(chosen.values()))
            total = sum(ablation_grid.network_calls(preset, operator, len(photos)).values())
            with tqdm(total=total, desc=task, unit="call", leave=False, disable=None) as bar:
                result["grids"][task] = ablation_grid.grids(operator, prior, photos, preset, bar.update)
            print(f"\n{task}, else {preset}")
            for name, grid in result["grids"][task].items():
                about_grid = f"{name}: {grid['network_calls']} network calls, {grid['batch']} photographs at once"
                print(f"\n{about_grid}\n\n{ablation_grid.markdown(grid)}", flush=True)
            save(arguments.json, result)
    if arguments.plot:
        ablation_grid.plot(arguments.plot, result["grids"])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prior", default="natural", help="name or file of the denoiser (natural)")
    parser.add_argument(
        "--tasks", nargs="+", default=[PUBLISHED_TASK], choices=list(lf.operators.REGISTRY), metavar="T"
    )
    parser.add_argument("--only", choices=("table", "grid"), help="leave the other out")
    parser.add_argument("--photographs", type=int, metavar="M", help="the first M of the folder (all)")
    parser.add_argument("--crop", type=int, metavar="PIXELS", help="take the middle of larger photographs (the whole)")
    parser.add_argument("--rounds", type=int, default=1, help="timed runs of each photograph (1)")
    parser.add_argument("--most-steps", type=int, default=MOST_STEPS, metavar="NK", help=f"({MOST_STEPS}) {MOST_HELP}")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="heat maps of the grids")
    try:
        run(parser.parse_args(argv))
    except lf.InputError as error:
        raise SystemExit(f"ablation: {error}") from None


if __name__ == "__main__":
    main()
