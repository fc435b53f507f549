"""The command line: lmaps-fast restore | degrade | train | evaluate-prior | download | bench | tasks | info."""

import argparse
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from lmaps_fast import __version__, denoisers
from lmaps_fast.apps import degrade, evaluate, info, restore, tasks, training
from lmaps_fast.apps.options import Options
from lmaps_fast.errors import InputError
from lmaps_fast.race import command as racing

DOWNLOAD = Options(denoisers.download, "sha256", name="name")


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


def run_download(arguments: argparse.Namespace) -> None:
    """Fetch a public checkpoint for --prior."""
    print(DOWNLOAD.call(arguments))


def run_tasks(arguments: argparse.Namespace) -> None:
    """List the tasks and their options."""
    print(tasks.report())


def run_info(arguments: argparse.Namespace) -> None:
    """Say what is installed and what runs here."""
    print(info.report())


@dataclass(frozen=True)
class Command:
    """What a command does, of which the first line of its docstring is the help, and what adds its options."""

    run: Callable[[argparse.Namespace], None]
    add_arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None


COMMANDS = {
    "restore": Command(restore.run, restore.add_arguments),
    "degrade": Command(degrade.run, degrade.add_arguments),
    "train": Command(training.run, training.add_arguments),
    "evaluate-prior": Command(evaluate.run, evaluate.add_arguments),
    "download": Command(run_download, DOWNLOAD.add_to),
    "tasks": Command(run_tasks),
    "info": Command(run_info),
}
BENCHMARKS = {"race": Command(racing.run, racing.add_arguments)}


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="lmaps-fast", description="Restore images with a diffusion prior, by Local MAP Sampling.")
    parser.add_argument("--version", action="version", version=f"lmaps-fast {__version__}")
    places = parser.add_subparsers(dest="command", required=True)
    add_commands(places, COMMANDS)
    measure = places.add_parser("bench", help="measure")
    add_commands(measure.add_subparsers(dest="benchmark", required=True), BENCHMARKS)
    return parser


def add_commands(places: "argparse._SubParsersAction[Parser]", commands: dict[str, Command]) -> None:
    for name, command in commands.items():
        text = (command.run.__doc__ or "").partition("\n")[0]
        parser = places.add_parser(name, help=text, description=text)
        parser.set_defaults(run=command.run)
        command.add_arguments(parser)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 for success, 2 after one sentence on standard error for bad input."""
    try:
        arguments = build_parser().parse_args(argv)
        with warnings.catch_warnings():  # which also puts showwarning back
            warnings.showwarning = lambda message, *_: print(f"lmaps-fast: {message}", file=sys.stderr)
            arguments.run(arguments)
    except InputError as error:
        print(f"lmaps-fast: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0
