"""The options of `lmaps-fast bench race`, and a race from a folder of photographs to its files."""

import argparse
import json
import warnings
from dataclasses import asdict
from pathlib import Path

import torch
from tqdm import tqdm

from lmaps_fast import denoisers, metrics, operators, solvers
from lmaps_fast.apps import evaluate
from lmaps_fast.errors import InputError
from lmaps_fast.files.image import write_bytes
from lmaps_fast.race import machine, report
from lmaps_fast.race.contenders import contenders
from lmaps_fast.race.run import Result, parity, race

JSON, TABLES = "race.json", "race.md"
LPIPS = "alex"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command, whose work is `run`."""
    parser.add_argument("--images", required=True, type=Path, metavar="DIR", help="folder of photographs of one size")
    parser.add_argument(
        "-o", "--output", required=True, type=Path, metavar="DIR", help=f"folder for {JSON}, {TABLES}, plots"
    )
    parser.add_argument("--tasks", nargs="+", default=list(operators.REGISTRY), metavar="NAME", help="(all)")
    parser.add_argument("--solvers", nargs="+", metavar="S", help=f"of {', '.join(solvers.REGISTRY)} (all)")
    parser.add_argument("--no-peers", action="store_true", help="without deepinv and azula")
    parser.add_argument("--no-plot", action="store_true", help="without plots, which need matplotlib")
    parser.add_argument("--prior", default="natural", metavar="P", help="name or file (natural)")
    parser.add_argument("--photographs", type=int, metavar="M", help="the first M of the folder (all)")
    parser.add_argument("--rounds", type=int, default=3, metavar="R", help="runs of what takes less than 10 s (3)")
    parser.add_argument(
        "--longest", type=float, default=120.0, metavar="S", help="seconds, then the rest is told (120)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="K", help="of the noise (0)")
    parser.add_argument("--device", help="cpu or cuda (a GPU if there is one)")
    parser.add_argument("--go-on", action="store_true", help=f"keep the tasks that {JSON} holds and race the others")


def run(arguments: argparse.Namespace) -> None:
    """Race, print the tables and write the files; those of each task as soon as it is done."""
    if arguments.rounds < 1:
        raise InputError(f"--rounds must be at least 1, not {arguments.rounds}")
    for name in arguments.tasks:
        operators.parameters(name)
    for name in arguments.solvers or ():
        if name not in solvers.REGISTRY:
            raise InputError(f"unknown solver {name!r}: choose one of {', '.join(solvers.REGISTRY)}")
    if not arguments.no_plot:
        report.pyplot()
    device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    photographs = evaluate.of_one_size(arguments.images, arguments.photographs)[1].to(device).split(1)
    metrics.ssim(photographs[0], photographs[0])  # says what it lacks before the race and not after
    denoiser = denoisers.load(arguments.prior, device)
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / JSON
    record: dict = {"machine": machine.describe(), "settings": {k: str(v) for k, v in vars(arguments).items()}}
    record |= {"unequal": {}, "absent": {}, "results": []}
    if arguments.go_on and path.exists():
        record = json.loads(path.read_text())
    results = [Result(**each) for each in record["results"]]
    reason = metrics.without_lpips(LPIPS)
    if reason:
        print(f"LPIPS is left out: {reason}")
    print(f"{len(photographs)} photographs, {machine.line(record['machine'])}")
    for task in arguments.tasks:
        if any(result.task == task for result in results):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a nonlinear_deblurring without weights, of noise levels as published
            operator = operators.create(task, photographs[0].shape[1:], seed=arguments.seed, device=device)
            x, y = photographs[0], operator.measure(photographs[0])
            with torch.no_grad():
                unequal = parity(operator, x + 0.1 * torch.randn_like(x), y)
            entered, absent = contenders(operator, denoiser, arguments.solvers, not arguments.no_peers)
            bar = tqdm(desc=task, unit="restoration", leave=False, disable=None)
            options: dict = {"rounds": arguments.rounds, "longest": arguments.longest, "seed": arguments.seed}
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
        write(arguments, record, results)
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


def write(arguments: argparse.Namespace, record: dict, results: list[Result]) -> None:
    """The record as JSON, its tables as Markdown and its plots."""
    write_bytes(arguments.output / JSON, json.dumps(record, indent=1).encode())
    tasks = report.by(results, "task")
    parts = [
        f"# The race\n\n`{record['machine']['command']}`\n",
        f"{machine.line(record['machine'])}.\n",
        "Medians of seconds per photograph; ~: stopped early, and told by the share of steps that was run. How many "
        "times quicker LMAPS is, and its PSNR less theirs:\n",
        report.summary(results, record["unequal"]),
        *(section(task, record, runs) for task, runs in tasks.items()),
    ]
    write_bytes(arguments.output / TABLES, ("\n".join(parts) + "\n").encode())
    if not arguments.no_plot:
        report.plot(arguments.output, results)
