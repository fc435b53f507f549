"""Benchmarks of two revisions, interleaved: `python bench/compare.py REVISION [OTHER]`.

Each revision is exported and installed into a temporary folder of its own; torch and the rest are those of this
environment. Then its own pytest-benchmark files run in turn with the other's, A B A B ..., so that both see the same
drift of the machine. `.` as a revision is the working tree with its changes.
"""

import argparse
import importlib.util
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from lmaps_fast.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
NOTHING_COLLECTED = 5  # pytest's exit status
Key = tuple[str, str]  # group and name of a benchmark
Medians = dict[Key, float]  # seconds, of one run


@dataclass(frozen=True)
class Comparison:
    """One benchmark: medians over rounds in seconds of A and B, and B / A: its median over rounds, least and most."""

    key: Key
    a: float
    b: float
    ratio: float
    least: float
    most: float


def medians(report: dict) -> Medians:
    """The median time of each benchmark in a JSON report of pytest-benchmark."""
    return {(b["group"] or "", b["name"]): b["stats"]["median"] for b in report["benchmarks"]}


def compare(rounds: list[tuple[Medians, Medians]]) -> tuple[list[Comparison], list[Key], list[Key]]:
    """Pair A and B of each round. Returns what all rounds of both have, and the keys that only A or only B has.

    Raises InputError where nothing is in common.
    """
    a_keys, b_keys = (set.intersection(*(set(pair[side]) for pair in rounds)) for side in (0, 1))
    table = []
    for key in (key for key in rounds[0][0] if key in a_keys & b_keys):
        a, b = ([pair[side][key] for pair in rounds] for side in (0, 1))
        ratios = [second / first for first, second in zip(a, b, strict=True)]
        middle = statistics.median(ratios)
        table.append(Comparison(key, statistics.median(a), statistics.median(b), middle, min(ratios), max(ratios)))
    if not table:
        raise InputError("the two revisions have no benchmark in common: name files that both have with --tests")
    return table, sorted(a_keys - b_keys), sorted(b_keys - a_keys)


def text(table: list[Comparison], a: str, b: str) -> str:
    """The table for people: milliseconds, the ratio B / A and its range over rounds."""
    names = [" / ".join(filter(None, row.key)) for row in table]
    width = max(len(name) for name in ["benchmark", *names])
    head = f"{'benchmark':{width}} {'A ms':>10} {'B ms':>10} {'B / A':>8}   range over rounds"
    lines = [f"A = {a}, B = {b}", head]
    for name, row in zip(names, table, strict=True):
        times = f"{row.a * 1e3:10.3f} {row.b * 1e3:10.3f} {row.ratio:8.3f}"
        lines.append(f"{name:{width}} {times}   {row.least:.3f} to {row.most:.3f}")
    return "\n".join(lines)


def git(*arguments: str) -> str:
    run = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True)
    if run.returncode:
        raise InputError(f"git {arguments[0]} failed: {run.stderr.strip() or 'no message'}")
    return run.stdout


def resolve(revision: str) -> str:
    """The commit of a revision, or "." for the working tree. Raises InputError if there is none."""
    if revision == ".":
        return revision
    try:
        return git("rev-parse", "--verify", "--quiet", "--end-of-options", revision + "^{commit}").strip()
    except InputError:
        raise InputError(f"{revision!r} is no revision of {ROOT}: give a commit, a branch, a tag or .") from None


def export(commit: str, folder: Path) -> None:
    """The files of a commit, or those of the working tree that git does not ignore."""
    folder.mkdir(parents=True)
    if commit != ".":
        archive = folder.with_suffix(".tar")
        git("archive", "--format=tar", f"--output={archive}", commit)
        shutil.unpack_archive(archive, folder, filter="data")
        return
    for name in git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


class Build:
    """A revision, built: its source, and a folder of its own where it is installed."""

    def __init__(self, revision: str, tests: list[str], folder: Path) -> None:
        self.revision, self.tests = revision, tests
        self.source, self.site = folder / "source", folder / "site"
        export(resolve(revision), self.source)
        for test in tests:
            if not (self.source / test.split("::")[0]).exists():
                raise InputError(f"{revision} has no {test}: name benchmarks that both revisions have with --tests")
        cuda = "auto" if torch.cuda.is_available() else "0"
        # Passive: where cores are shared, threads that wait would take them, a hundred times what is measured.
        # CI: a build without kernels, whose times would be others, is an error.
        own = {"LMAPS_FAST_CUDA": cuda, "OMP_WAIT_POLICY": "PASSIVE", "CI": "true"}
        self.environment = {**own, **os.environ, "PYTHONPATH": str(self.site)}
        # Where this environment can build, pip needs no network.
        here = ["--no-build-isolation"] if importlib.util.find_spec("pybind11") else []
        self.python(("pip", "install", "-q", "--no-deps", *here, "--target", str(self.site), "."), "cannot be built")

    def python(self, module: tuple[str, ...], failure: str) -> int:
        """Run a module, without the source folder on its path: its package lacks the extension. Returns 0 or 5."""
        command = [sys.executable, "-P", "-m", *module]
        run = subprocess.run(command, cwd=self.source, env=self.environment, capture_output=True, text=True)
        if run.returncode not in (0, NOTHING_COLLECTED):
            lines = (run.stdout + run.stderr).strip().splitlines() or ["no message"]
            cause = next((line.strip() for line in reversed(lines) if "Error: " in line), lines[-1])
            raise InputError(f"{self.revision} {failure}: {cause}")
        return run.returncode

    def measure(self, expression: str) -> Medians:
        """Run the benchmarks once."""
        report = self.source.parent / "report.json"
        report.unlink(missing_ok=True)
        options = ("-q", "-p", "no:cacheprovider", "-k", expression, f"--benchmark-json={report}")
        self.python(("pytest", *self.tests, *options), "fails its benchmarks")
        found = medians(json.loads(report.read_text())) if report.exists() and report.stat().st_size else {}
        if not found:
            raise InputError(f"{self.revision} has no benchmark in {' '.join(self.tests)} for -k {expression!r}")
        return found


def terminate(number: int, frame: object) -> None:
    sys.exit(128 + number)  # an exception, so that temporary folders are removed


def run(options: argparse.Namespace) -> None:
    if options.rounds < 1:
        raise InputError(f"rounds must be at least 1, not {options.rounds}")
    revisions = (options.revision, options.other)
    for revision in revisions:
        resolve(revision)
    if "." not in revisions and git("status", "--porcelain"):
        print("the working tree has changes, which are not compared: give . as a revision for that", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="lmaps_fast_compare_") as temporary:
        builds = []
        for side, revision in zip("AB", revisions, strict=True):
            print(f"building {revision} ...", file=sys.stderr)
            builds.append(Build(revision, options.tests, Path(temporary) / side))
        rounds = []
        for index in range(options.rounds):
            print(f"round {index + 1} of {options.rounds} ...", file=sys.stderr)
            rounds.append((builds[0].measure(options.k), builds[1].measure(options.k)))
    table, *alone = compare(rounds)
    print(text(table, *revisions))
    for revision, keys in zip(revisions, alone, strict=True):
        if keys:
            print(f"only in {revision}: " + ", ".join(" / ".join(filter(None, key)) for key in keys))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision", help="A: a commit, branch or tag, or . for the working tree")
    parser.add_argument("other", nargs="?", default="HEAD", help="B, by default HEAD")
    parser.add_argument("--tests", nargs="+", default=["bench/test_local_map.py"], help="pytest-benchmark files")
    parser.add_argument("--rounds", type=int, default=3, help="how often each revision runs")
    parser.add_argument("-k", default="", metavar="EXPR", help="only benchmarks that match, as in pytest")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, terminate)
    try:
        run(options)
    except InputError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
