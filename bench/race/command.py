"""`lmaps-fast bench race`: a race from a folder of photographs to its files."""

import argparse
import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from lmaps_fast import metrics, operators, solvers
from lmaps_fast.apps import evaluate
from lmaps_fast.apps.options import DEVICE, PRIOR, Options
from lmaps_fast.errors import InputError
from lmaps_fast.files.image import write_bytes
from lmaps_fast.race import machine, report
from lmaps_fast.race.contenders import contenders
from lmaps_fast.race.run import Result, parity, race

JSON, TABLES = "race.json", "race.md"
LPIPS = "alex"


@dataclass(frozen=True)
class Settings:
    """What is raced, and where the results go.

    Args:
        output: a folder for race.json, race.md and the plots.
        tasks: which tasks; default: all.
        solvers: which solvers; default: all.
        peers: race deepinv and azula as well.
        plot: draw plots, for which matplotlib is needed.
        rounds: runs of what takes less than 10 s; default 3.
        longest: seconds after which a run is stopped and told by the share of its steps; default 120.
        seed: of what tasks draw, of the measurements' noise and of the solvers'; default 0.
        go_on: keep the tasks that race.json holds, and race the others.
    """

    output: Path
    tasks: Sequence[str] = tuple(operators.REGISTRY)
    solvers: Sequence[str] | None = None
    peers: bool = True
    plot: bool = True
    rounds: int = 3
    longest: float = 120.0
    seed: int = 0
    go_on: bool = False


SETTINGS = Options(Settings, output="-o --output")
PHOTOGRAPHS = Options(evaluate.of_one_size, folder="--images", most="--photographs", crop=None)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for options in (PHOTOGRAPHS, SETTINGS, PRIOR, DEVICE):
        options.add_to(parser)


def run(arguments: argparse.Namespace) -> None:
    """Race all solvers on the same photographs: seconds and quality."""
    settings, device = SETTINGS.call(arguments), DEVICE.call(arguments)
    if settings.rounds < 1:
        raise InputError(f"--rounds must be at least 1, not {settings.rounds}")
    for name in settings.tasks:
        operators.parameters(name)
    for name in settings.solvers or ():
        if name not in solvers.REGISTRY:
            raise InputError(f"unknown solver {name!r}: choose one of {', '.join(solvers.REGISTRY)}")
    if settings.plot:
        report.pyplot()
    photographs = PHOTOGRAPHS.call(arguments)[1].to(device).split(1)
    metrics.ssim(photographs[0], photographs[0])  # says what it lacks before the race and not after
    denoiser = PRIOR.call(arguments, device=device)
    settings.output.mkdir(parents=True, exist_ok=True)
    path = settings.output / JSON
    chosen = {**PHOTOGRAPHS.given(arguments), **vars(settings), **PRIOR.given(arguments), "device": device}
    record: dict = {"machine": machine.describe(), "settings": {k: str(v) for k, v in chosen.items()}}
    record |= {"unequal": {}, "absent": {}, "results": []}
    if settings.go_on and path.exists():
        record = json.loads(path.read_text())
    results = [Result(**each) for each in record["results"]]
    reason = metrics.without_lpips(LPIPS)
    if reason:
        print(f"LPIPS is left out: {reason}")
    print(f"{len(photographs)} photographs, {machine.line(record['machine'])}")
    for task in settings.tasks:
        if any(result.task == task for result in results):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a nonlinear_deblurring without weights, of noise levels as published
            operator = operators.create(task, photographs[0].shape[1:], seed=settings.seed, device=device)
            x, y = photographs[0], operator.measure(photographs[0])
            with torch.no_grad():
                unequal = parity(operator, x + 0.1 * torch.randn_like(x), y)
            entered, absent = contenders(operator, denoiser, settings.solvers, settings.peers)
            bar = tqdm(desc=task, unit="restoration", leave=False, disable=None)
            options: dict = {"rounds": settings.rounds, "longest": settings.longest, "seed": settings.seed}
            options["lpips"] = None if reason else LPIPS
            runs = race(entered, operator, denoiser, photographs, **options, say=tqdm.write)
            for result in runs:
                results.append(result)
                bar.update()
                bar.set_postfix_str(f"{result.name} {result.seconds:.1f} s")
            bar.close()
        if unequal:
            record["unequal"][task] = unequal
        record["absent"][task] = absent
        record["results"] = [asdict(result) for result in results]
        print(section(task, record, [r for r in results if r.task == task]), flush=True)
        write(settings, record, results)
    if record["unequal"]:
        raise InputError(f"no speed-up is told where forms differ: {'; '.join(record['unequal'].values())}")


def section(task: str, record: dict, results: list[Result]) -> str:
    """The Markdown section of one task: its table, and who is absent and why."""
    lines = [f"\n## {task}\n"]
    unequal = record["unequal"].get(task)
    if unequal:
        lines.append(f"No speed-up is told: {unequal}.\n")
    lines.append(report.table(results, unequal))
    absent = record["absent"].get(task, {})
    if absent:
        lines.append(
            "\nAbsent: " + "; ".join(f"{name} ({reason.partition(':')[0]})" for name, reason in absent.items()) + "."
        )
    return "\n".join(lines)


def write(settings: Settings, record: dict, results: list[Result]) -> None:
    """The record as JSON, its tables as Markdown and its plots."""
    write_bytes(settings.output / JSON, json.dumps(record, indent=1).encode())
    tasks = report.by(results, "task")
    parts = [
        f"# The race\n\n`{record['machine']['command']}`\n",
        f"{machine.line(record['machine'])}.\n",
        "Medians of seconds per photograph; ~: stopped early, and told by the share of steps that was run. How many "
        "times quicker LMAPS is, and its PSNR less theirs:\n",
        report.summary(results, record["unequal"]),
        *(section(task, record, runs) for task, runs in tasks.items()),
    ]
    write_bytes(settings.output / TABLES, ("\n".join(parts) + "\n").encode())
    if settings.plot:
        report.plot(settings.output, results)
