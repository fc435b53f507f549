"""Prints the ratios of each group of benchmarks after the run."""

import torch
from cases import GOALS, THREADS

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
        ratios = [f"{name} / collapsed = {slow / fast:.1f} (goal {GOALS[name]:.0f})" for name, slow in medians.items()]
        terminalreporter.write_line(f"{group}: collapsed {fast * 1e3:.2f} ms; " + "; ".join(ratios))
