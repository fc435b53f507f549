"""Options of the command line: each is a parameter of a function, and says what the function's Args block says."""

import argparse
import inspect
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import pytest

import lmaps_fast as lf
from lmaps_fast.apps import cli, degrade, evaluate, restore, tasks, training
from lmaps_fast.apps.options import DEVICE, PRIOR, Options, entries
from lmaps_fast.operators.inpainting_box import InpaintingBox
from lmaps_fast.race import command as racing

ROOT = Path(__file__).parents[1]
SOURCES = [
    *(restore.FILES, restore.SET_UP, restore.SEED, degrade.FILES, degrade.MEASURE, tasks.TASK, PRIOR, DEVICE),
    *(training.command.TRAIN, evaluate.EVALUATION, evaluate.PHOTOGRAPHS, racing.SETTINGS, racing.PHOTOGRAPHS),
    *(cli.DOWNLOAD, *(tasks.options_of(task) for task in lf.operators.REGISTRY)),
]


def parsers(parser, name=""):
    """Each command and its parser."""
    found = {name: parser} if parser.get_default("run") else {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, inner in action.choices.items():
                found |= parsers(inner, f"{name} {word}".strip())
    return found


COMMANDS = parsers(cli.build_parser())


def explained(parser):
    return {action.dest: action.help for action in parser._actions if action.dest not in ("help", "version")}


@pytest.mark.parametrize("task", lf.operators.REGISTRY)
def test_every_parameter_of_a_task_has_an_entry(task):
    factory = lf.operators.factory(task)
    assert set(inspect.signature(factory).parameters) == set(entries(factory))


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.function.__qualname__)
def test_the_help_of_an_option_is_its_entry(source):
    blocks = entries(source.function)
    for option in source.options:
        shown = {name: explained(parser).get(option.dest, "") for name, parser in COMMANDS.items()}
        assert any(blocks[option.parameter] in text.replace("%%", "%") for text in shown.values()), option


def test_every_command_is_there_and_every_option_has_help():
    words = {"restore", "degrade", "train", "evaluate-prior", "download", "bench race", "tasks", "info"}
    assert set(COMMANDS) == words
    for name, parser in COMMANDS.items():
        assert parser.description, name
        assert all(explained(parser).values()), name
        parser.format_help()


def test_nothing_is_described_twice():
    """No help is written beside an option, and no entry that an option shows stands twice in the tree."""
    paths = [path for folder in ("lmaps_fast", "bench/race") for path in (ROOT / folder).rglob("*.py")]
    tree = " ".join(" ".join(path.read_text() for path in paths).split())
    assert re.findall(r"help=[\"'f]\S*", tree) == ['help="measure")']  # of `bench`, which is no option
    shown = {entries(source.function)[option.parameter] for source in SOURCES for option in source.options}
    described = {text for text in shown if len(text) > 40 and not text.startswith("see `")}
    # A mask is explained by each of two classes; the command line shows it once.
    assert {text for text in described if tree.count(text) > 1} == {entries(InpaintingBox)["mask"]}


@pytest.mark.parametrize("command", ["restore", "degrade"])
def test_an_option_of_several_tasks_is_there_once_and_names_them(command):
    texts = explained(COMMANDS[command])
    assert texts["mask"].startswith("inpainting_box, inpainting_random: what is known")
    assert texts["mask"].count("what is known") == 1
    for task in ("inpainting_box", "inpainting_random", "motion_deblurring", "nonlinear_deblurring"):
        assert f"{task}: " in texts["operator_seed"]


def test_the_list_of_tasks_is_of_the_same_source():
    report = tasks.report()
    for task in lf.operators.REGISTRY:
        section = report.partition(f"{task}\n")[2]
        for option in tasks.options_of(task).options:
            assert f"    {option.spelling[-1]}: {option.text}" in section


def everything(
    one: int,
    two: float | Sequence[float] | None = None,
    three: Sequence[int] | None = None,
    four: tuple[int, int, int] = (1, 2, 3),
    five: bool = False,
    six: bool | None = None,
    seven: bool = True,
    eight: str | os.PathLike | None = None,
    nine: Path | None = None,
    ten: Annotated[float, evaluate.level] = 1.0,
    eleven: Any = None,
    twelve: argparse.Namespace | None = None,
):
    """All that can be read.

    Args:
        one: a number in 100 %.
        two, three: numbers,
            on two lines.
        four: with commas.
        five, six, seven: switches.
        eight, nine: files.
        ten: a level.
        eleven: anything.
        twelve: no option.

    Errors: none.
    """
    return locals()


def parsed(*arguments, **spelled):
    options, parser = Options(everything, **spelled), argparse.ArgumentParser()
    options.add_to(parser)
    return options.given(parser.parse_args(arguments))


def test_types_are_read_and_defaults_stay_with_the_function():
    assert parsed("--one", "1") == {"one": 1}
    line = "--one 2 --two .5 --three 4 5 --four 7,8,9 --five --six --no-seven --eight a --nine b --ten 1/4 --eleven c"
    values = parsed(*line.split())
    assert list(values.values()) == [2, 0.5, [4, 5], (7, 8, 9), True, True, False, "a", Path("b"), 0.25, "c"]
    assert parsed("3", "--seed-of-two", "1", one="one", two="-s --seed-of-two") == {"one": 3, "two": 1.0}
    assert parsed("--one", "1", six=None) == {"one": 1}


def test_entries_are_joined_and_end_with_the_block():
    blocks = entries(everything)
    assert blocks["two"] == blocks["three"] == "numbers, on two lines."
    assert list(blocks)[-1] == "twelve"
    assert "100 %" in Options(everything).options[0].text


def test_a_call_takes_what_was_given_and_more():
    options, parser = Options(everything, "one"), argparse.ArgumentParser()
    options.add_to(parser)
    assert options.call(parser.parse_args(["--one", "5"]), twelve=None)["one"] == 5
