"""Prints the ratios of each group of benchmarks after the run."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # where cores are shared, waiting threads would take them

import torch
from cases import LOCAL_MAP, THREADS

torch.set_num_threads(THREADS)


def pytest_terminal_summary(terminalreporter, config):
    session = getattr(config, "_benchmarksession", None)
    groups: dict[str, dict[str, float]] = {}
    for benchmark in session.benchmarks if session else []:
        groups.setdefault(benchmark.group, {})[benchmark.name] = benchmark.stats.median
    for group, medians in groups.items():
        if "collapsed" not in medians:
            continue
        fast = medians.pop("collapsed")
        goals = LOCAL_MAP[group][2]
        ratios = [f"{name} / collapsed = {slow / fast:.1f} (goal {goals[name]:g})" for name, slow in medians.items()]
        terminalreporter.write_line(f"{group}: collapsed {fast * 1e3:.2f} ms; " + "; ".join(ratios))
