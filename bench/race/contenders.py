"""Who runs in the race: each solver as its authors' code computes it, with this project's operators, and collapsed."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lmaps_fast import Restorer, solvers
from lmaps_fast.denoisers import Denoiser
from lmaps_fast.errors import InputError
from lmaps_fast.levels import ddpm_levels
from lmaps_fast.operators import HighDynamicRange, Operator
from lmaps_fast.race.peers import build as build_peer
from lmaps_fast.race.peers import peers
from lmaps_fast.race.published import as_published
from lmaps_fast.solvers import Step

# How the K inner steps between two network calls are taken.
PUBLISHED = "as published"  # one by one, by autograd through the operator as the public code computes it
LOOP = "loop"  # one by one, with this project's operators
COLLAPSED = "collapsed"  # at once, with the same result (of DAPS: the same distribution)
WITHOUT = "no inner steps"
PEER = "other library"

INNER_LOOPS = ("lmaps", "daps", "sitcom")
NAMES = {
    "lmaps": "LMAPS",
    "daps": "DAPS",
    "sitcom": "SITCOM",
    "dps": "DPS",
    "pigdm": "PiGDM",
    "tmpd": "TMPD",
    "ddrm": "DDRM",
    "ddnm": "DDNM+",
    "diffpir": "DiffPIR",
}

Run = Callable[[Tensor, int, float], tuple[Tensor | None, float]]  # y, seed, longest -> x_hat or None, share done


class Overtime(Exception):
    """Raised out of a restoration that has taken too long; `share` of it is done."""

    def __init__(self, share: float) -> None:
        self.share = share


@dataclass(frozen=True)
class Contender:
    """One way to restore. operator: what the task's operator is for it; build(operator, denoiser) sets it up, and its
    Run restores y, or stops after `longest` seconds and says what share of its steps was done."""

    solver: str
    form: str
    operator: Callable[[Operator], Operator]
    build: Callable[[Operator, Denoiser], Run]

    @property
    def name(self) -> str:
        return f"{NAMES.get(self.solver, self.solver)}, {self.form}"


def contenders(
    operator: Operator, denoiser: Denoiser, only: list[str] | None = None, others: bool = True
) -> tuple[list[Contender], dict[str, str]]:
    """Those that can run on an operator, and for the others by name the reason why not.

    only: names of solvers, all unless given. others: also those of deepinv and azula.
    """
    entered, absent = [], {}
    for solver in only or solvers.REGISTRY:
        for form in _forms(solver, operator):
            contender = _ours(solver, form)
            try:
                contender.build(contender.operator(operator), denoiser)
                entered.append(contender)
            except InputError as error:
                absent[contender.name] = str(error)
    for name, peer in peers(operator, denoiser).items() if others else ():
        if isinstance(peer, str):
            absent[name] = peer
        else:
            entered.append(Contender(name, PEER, lambda operator: operator, _peer(name)))
    return entered, absent


def _forms(solver: str, operator: Operator) -> list[str]:
    if solver not in INNER_LOOPS:
        return [WITHOUT]
    collapses = {"lmaps": operator.collapses, "daps": "spectrum" in operator.can, "sitcom": False}
    forms = [PUBLISHED] if as_published(operator) is not None else []
    return [*forms, LOOP, *[COLLAPSED] * collapses[solver]]


def _ours(solver: str, form: str) -> Contender:
    def to_operator(operator: Operator) -> Operator:
        if solver != "lmaps" and isinstance(operator, HighDynamicRange):
            # Its public code differentiates the clip itself; a surrogate is LMAPS's idea.
            gain = operator.parameters[0, 0].item()
            operator = HighDynamicRange(operator.shape, gain, "autograd", operator.dtype, operator.device)
        twin = as_published(operator) if form == PUBLISHED else operator
        assert twin is not None
        return twin

    def build(operator: Operator, denoiser: Denoiser) -> Run:
        settings: dict[str, Any] = {}
        if solver == "lmaps":
            settings["backend"] = None if form == COLLAPSED else "reference"
        elif solver == "daps":
            settings["method"] = "exact" if form == COLLAPSED else "langevin"
        else:
            settings = within(solver, operator, denoiser)
        restorer = Restorer(operator, denoiser, solver, tile=0, **settings)

        def run(y: Tensor, seed: int, longest: float) -> tuple[Tensor | None, float]:
            start, done = time.perf_counter(), 0

            def watch(step: Step) -> None:
                nonlocal done
                done += 1
                steps = step.total * restorer.runs
                if time.perf_counter() - start > longest and done < steps:
                    raise Overtime(done / steps)

            try:
                return restorer(y, seed, callback=None if form == COLLAPSED else watch), 1.0
            except Overtime as overtime:
                return None, overtime.share

        return run

    return Contender(solver, form, to_operator, build)


def within(solver: str, operator: Operator, denoiser: Denoiser) -> dict[str, Any]:
    """Settings that keep DDPM's noise levels, up to 157, within those the prior was trained on: the first of them, and
    the number of steps where fewer levels than steps are left (930 of DPS's 1000 below 80)."""
    highest = getattr(denoiser, "sigma_range", (0.0, math.inf))[1]
    levels = len(ddpm_levels(1000)) - 1 - sum(level > highest for level in ddpm_levels(1000))
    return {"sigma_max": highest, "steps": min(solvers.REGISTRY[solver].published(operator.name).steps, levels)}


def _peer(name: str) -> Callable[[Operator, Denoiser], Run]:
    def build(operator: Operator, denoiser: Denoiser) -> Run:
        peer = build_peer(name, operator, denoiser)
        assert not isinstance(peer, str)
        return lambda y, seed, longest: (peer(y, seed), 1.0)

    return build
