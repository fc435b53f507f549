"""Options of the command line from functions: name and type from the signature, help from the Args block."""

import argparse
import inspect
import os
import re
import types
import typing
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch

from lmaps_fast import denoisers, door, operators, solvers
from lmaps_fast.denoisers.checkpoints import CHECKPOINTS
from lmaps_fast.ops.backends import BACKENDS

# How text is read as a value of a type, and what stands for it in the usage.
READERS: dict[Any, tuple[Callable[[str], Any], str]] = {
    int: (int, "N"),
    float: (float, "X"),
    Path: (Path, "PATH"),
    os.PathLike: (str, "PATH"),
    str: (str, "NAME"),
    Any: (str, "NAME"),
}
# Options whose values are names of a registry: the usage shows these.
NAMES: dict[str, Collection[str]] = {
    "task": operators.REGISTRY,
    "tasks": operators.REGISTRY,
    "solver": solvers.REGISTRY,
    "solvers": solvers.REGISTRY,
    "backend": BACKENDS,
    "name": CHECKPOINTS,
}


@dataclass(frozen=True)
class Option:
    """One parameter as an option. spelling: as argparse takes it, ("-o", "--output"), or ("inputs",) for one without a
    flag. reading: how argparse reads its text."""

    parameter: str
    spelling: tuple[str, ...]
    text: str
    reading: dict[str, Any]
    required: bool

    @property
    def dest(self) -> str:
        return self.spelling[-1].lstrip("-").replace("-", "_")

    def add_to(self, parser: argparse.ArgumentParser, text: str | None = None) -> None:
        """text: another help text."""
        settings = {"help": (text or self.text).replace("%", "%%"), "default": argparse.SUPPRESS, **self.reading}
        if self.parameter in NAMES:
            settings["metavar"] = f"{{{','.join(NAMES[self.parameter])}}}"
        if self.spelling[0].startswith("-"):
            settings["required"] = self.required
        parser.add_argument(*self.spelling, **settings)


class Options:
    """Parameters of a function as options of the command line.

    Only what is given on the command line is handed on, so that defaults stand with the function alone.

    Args:
        function: what takes the values; its Args block explains each.
        names: which of its parameters; default: all that can be written as text.
        spelled: those that are not spelled --name, by keyword, as argparse takes them: seed="--operator-seed",
            output="-o --output", inputs="inputs" for one without a flag; None leaves it out.
    """

    def __init__(self, function: Callable[..., Any], *names: str, **spelled: str | None) -> None:
        self.function, texts = function, entries(function)
        self.options = []
        for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
            reading = reading_of(parameter.annotation)
            spelling = spelled.get(name, f"--{name.replace('_', '-')}")
            if spelling is None or reading is None or (names and name not in (*names, *spelled)):
                continue
            if parameter.default is True:  # there is --no-name too
                reading = {"action": argparse.BooleanOptionalAction}
            required = parameter.default is parameter.empty
            self.options.append(Option(name, tuple(spelling.split()), texts[name], reading, required))

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        for option in self.options:
            option.add_to(parser)

    def given(self, arguments: argparse.Namespace) -> dict[str, Any]:
        """The values that were given, by the names of the function's parameters."""
        values = vars(arguments)
        return {option.parameter: values[option.dest] for option in self.options if option.dest in values}

    def call(self, arguments: argparse.Namespace, /, **more: Any) -> Any:
        """The function of what was given, and of more."""
        return self.function(**self.given(arguments), **more)


def entries(function: Callable[..., Any]) -> dict[str, str]:
    """The Args block of a docstring: the text of each parameter, on one line."""
    _, _, after = (inspect.getdoc(function) or "").partition("\nArgs:\n")
    block = re.split(r"^(?=\S)", after, maxsplit=1, flags=re.M)[0]
    found = re.findall(r"^ {4}(\w+(?:, \w+)*): (.*(?:\n {5,}.*)*)", block, re.M)
    return {name: " ".join(text.split()) for names, text in found for name in names.split(", ")}


def reading_of(annotation: Any) -> dict[str, Any] | None:
    """How argparse reads a value of this type; None where text cannot be one.

    Of a union the first of READERS counts. A tuple of a fixed length is written with commas, a sequence with spaces.
    `Annotated[float, level]` is read by the function `level`.
    """
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return {"type": inner[1], "metavar": READERS[inner[0]][1]}
    if origin is tuple:
        read, sign = READERS[inner[0]]
        return {"type": with_commas(read), "metavar": ",".join([sign] * len(inner))}
    if origin in (Sequence, list):
        element = reading_of(inner[0])
        return element and {**element, "nargs": "+"}
    members = inner if origin in (typing.Union, types.UnionType) else (annotation,)
    if bool in members:
        optional = annotation is not bool
        return {"action": argparse.BooleanOptionalAction if optional else "store_true"}
    for kind, (read, sign) in READERS.items():
        if kind in members:
            return {"type": read, "metavar": sign}
    return next((found for member in members if member is not annotation and (found := reading_of(member))), None)


def with_commas(read: Callable[[str], Any]) -> Callable[[str], tuple]:
    """Reads 64,128,192 as a tuple. Raises ValueError for other text, as argparse expects."""

    def values(text: str) -> tuple:
        return tuple(read(part) for part in text.split(","))

    return values


def chosen_device(device: str | None = None) -> str:
    """The device that a command computes on.

    Args:
        device: "cpu" or "cuda"; default: a GPU if there is one.

    Errors: InputError for one that cannot be used here.
    """
    return str(door.device_of(device or ("cuda" if torch.cuda.is_available() else "cpu")))


PRIOR = Options(denoisers.load, source="--prior", device=None)
DEVICE = Options(chosen_device)
