"""The task of a command and its options, which are the parameters of what makes its operator."""

import argparse
import inspect
from typing import Any

from lmaps_fast import operators
from lmaps_fast.apps.options import Option, Options

TASK = Options(operators.create, "task")
# --seed is that of the noise.
SEED = "--operator-seed"


def options_of(task: str) -> Options:
    """The options of one task."""
    factory = operators.factory(task)
    seed = {"seed": SEED} if "seed" in inspect.signature(factory).parameters else {}
    return Options(factory, shape=None, device=None, **seed)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--task, and the options of all tasks: one that several have is there once, and says what it is to each."""
    TASK.add_to(parser)
    found: dict[str, list[tuple[str, Option]]] = {}
    for task in operators.REGISTRY:
        for option in options_of(task).options:
            found.setdefault(option.dest, []).append((task, option))
    for uses in found.values():
        texts: dict[str, list[str]] = {}
        for task, option in uses:
            texts.setdefault(option.text, []).append(task)
        text = " ".join(f"{', '.join(names)}: {text}" for text, names in texts.items())
        uses[0][1].add_to(parser, text)


def parameters(arguments: argparse.Namespace) -> dict[str, Any]:
    """The task's parameters that were given. Raises InputError for an unknown task and for options of another one."""
    given: dict[str, Any] = {}
    for task in operators.REGISTRY:
        given |= options_of(task).given(arguments)
    operators.check_parameters(arguments.task, given)
    return given


def report() -> str:
    """The text of `lmaps-fast tasks`."""
    lines = []
    for task, operator in operators.REGISTRY.items():
        lines.append(f"{task}\n  {(inspect.getmodule(operator).__doc__ or '').strip()}")
        lines += [f"    {option.spelling[-1]}: {option.text}" for option in options_of(task).options]
    return "\n".join(lines)
