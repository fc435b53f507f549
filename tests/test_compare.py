"""Two revisions compared: pairing of rounds, the table, and what is refused before anything is built."""

import argparse
import os

import compare
import pytest

from lmaps_fast.errors import InputError


def report(**times):
    return {"benchmarks": [{"group": "blur", "name": n, "stats": {"median": t, "min": 0.0}} for n, t in times.items()]}


def rounds(*pairs):
    return [tuple(compare.medians(report(**side)) for side in pair) for pair in pairs]


def test_medians_of_a_report_without_groups():
    content = {"benchmarks": [{"group": None, "name": "test_a", "stats": {"median": 2.0}}]}
    assert compare.medians(content) == {("", "test_a"): 2.0}


def test_ratios_are_paired_within_rounds():
    # The machine slows down by 10 in the last round: the ratio of that round stays 2.
    measured = rounds(
        ({"eager": 1.0, "fast": 1.0}, {"eager": 3.0, "fast": 1.0}),
        ({"eager": 2.0, "fast": 1.0}, {"eager": 2.0, "fast": 0.5}),
        ({"eager": 20.0, "fast": 1.0}, {"eager": 40.0, "fast": 0.8}),
    )
    table, only_a, only_b = compare.compare(measured)
    assert (only_a, only_b) == ([], [])
    assert table == [
        compare.Comparison(("blur", "eager"), 2.0, 3.0, 2.0, 1.0, 3.0),
        compare.Comparison(("blur", "fast"), 1.0, 0.8, 0.8, 0.5, 1.0),
    ]


def test_benchmarks_of_one_side_are_named():
    measured = rounds(({"eager": 1.0, "old": 1.0}, {"eager": 1.0, "new": 1.0}), ({"eager": 1.0}, {"eager": 1.0}))
    table, only_a, only_b = compare.compare(measured)
    assert [row.key for row in table] == [("blur", "eager")]
    assert (only_a, only_b) == ([], [])  # what a round lacks is in neither
    _, only_a, only_b = compare.compare(measured[:1])
    assert (only_a, only_b) == ([("blur", "old")], [("blur", "new")])
    with pytest.raises(InputError, match="no benchmark in common"):
        compare.compare(rounds(({"old": 1.0}, {"new": 1.0})))


def test_table():
    table, _, _ = compare.compare(rounds(({"eager": 0.5}, {"eager": 0.25}), ({"eager": 0.5}, {"eager": 0.3})))
    lines = compare.text(table, "HEAD~1", ".").splitlines()
    assert lines[0] == "A = HEAD~1, B = ."
    assert lines[2].split() == ["blur", "/", "eager", "500.000", "275.000", "0.550", "0.500", "to", "0.600"]


@pytest.fixture
def revisions(monkeypatch):
    """A repository that has HEAD and whose tree is clean."""

    def git(command, *arguments):
        if command == "rev-parse" and not arguments[-1].startswith("HEAD"):
            raise InputError("git rev-parse failed")
        return "" if command == "status" else "0123abcd\n"

    monkeypatch.setattr(compare, "git", git)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"other": "no-such-branch"}, "'no-such-branch' is no revision of"),
        ({"rounds": 0}, "rounds must be at least 1, not 0"),
    ],
)
def test_refused_before_building(change, message, revisions, monkeypatch):
    monkeypatch.setattr(compare, "Build", lambda *_: pytest.fail("built"))
    options = {"revision": "HEAD~1", "other": "HEAD", "tests": ["bench/test_local_map.py"], "rounds": 1, "k": ""}
    with pytest.raises(InputError, match=message):
        compare.run(argparse.Namespace(**(options | change)))


def test_missing_file_of_benchmarks_and_folders_removed(revisions, monkeypatch, tmp_path):
    monkeypatch.setattr(compare.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(compare, "export", lambda commit, folder: folder.mkdir(parents=True))
    options = argparse.Namespace(revision="HEAD~1", other="HEAD", tests=["bench/test_none.py"], rounds=1, k="")
    with pytest.raises(InputError, match=r"HEAD~1 has no bench/test_none\.py"):
        compare.run(options)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_is_told_by_its_cause(tmp_path):
    """And not by what pip says last."""
    build = object.__new__(compare.Build)
    build.revision, build.source, build.environment = "HEAD", tmp_path, {**os.environ, "PYTHONPATH": str(tmp_path)}
    script = "import sys\nprint('ModuleNotFoundError: No module named pybind11')\nsys.exit('ERROR: Could not build')\n"
    (tmp_path / "broken.py").write_text(script)
    with pytest.raises(InputError, match=r"^HEAD cannot be built: ModuleNotFoundError: No module named pybind11$"):
        build.python(("broken",), "cannot be built")
    (tmp_path / "broken.py").write_text("raise SystemExit('no luck')\n")
    with pytest.raises(InputError, match=r"^HEAD cannot be built: no luck$"):
        build.python(("broken",), "cannot be built")


def test_runs_alternate(revisions, monkeypatch, capsys):
    order = []

    class Build:
        def __init__(self, revision, tests, folder):
            self.revision = revision

        def measure(self, expression):
            order.append(self.revision)
            return {("blur", "eager"): float(len(order))}

    monkeypatch.setattr(compare, "Build", Build)
    compare.run(argparse.Namespace(revision="HEAD~1", other="HEAD", tests=[], rounds=2, k=""))
    assert order == ["HEAD~1", "HEAD", "HEAD~1", "HEAD"]
    assert "1.667" in capsys.readouterr().out  # the median of 2 / 1 and 4 / 3
