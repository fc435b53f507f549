"""Whole restorations by each solver with a denoiser that costs nothing: the time of the solver alone, grouped by task.

`pytest bench/test_solvers.py --benchmark-group-by=group`; two revisions: `python bench/compare.py REVISION --tests
bench/test_solvers.py`.
"""

import baselines
import cases
import pytest
from torch import Tensor

import lmaps_fast as lf

STEPS, INNER_STEPS = 4, 5  # N noise levels, with K steps where a solver has them
# Network calls at each level: DAPS 5, SITCOM K, the others 1.
SOLVERS: dict[str, tuple[str, dict]] = {
    "lmaps": ("lmaps", {"inner_steps": INNER_STEPS}),
    "daps langevin": ("daps", {"inner_steps": INNER_STEPS, "method": "langevin"}),
    "daps exact": ("daps", {"inner_steps": INNER_STEPS, "method": "exact"}),
    "sitcom": ("sitcom", {"inner_steps": INNER_STEPS}),
    "dps": ("dps", {}),
    "pigdm": ("pigdm", {}),
    "tmpd": ("tmpd", {}),
    "ddrm": ("ddrm", {}),
    "ddnm": ("ddnm", {}),
    "diffpir": ("diffpir", {}),
}


def denoiser(x: Tensor, sigma: float) -> Tensor:
    """The posterior mean under the prior N(0, 1/4) of each pixel."""
    return x / (1 + 4 * sigma**2)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("case", cases.LOCAL_MAP)
def test_solver(case, name, benchmark):
    task, arguments, _ = cases.LOCAL_MAP[case]
    operator, _, y, _ = baselines.problem(task, cases.SHAPE, cases.SIGMA, **arguments)
    solver, settings = SOLVERS[name]
    # From a high noise level the linear systems of PiGDM and DiffPIR are so ill-conditioned for motion blur that few
    # steps would measure little else.
    try:
        restorer = lf.Restorer(operator, denoiser, solver, steps=STEPS, sigma_max=cases.SIGMA, runs=1, **settings)
    except lf.InputError as error:  # not for this operator, or never published for it
        pytest.skip(str(error))
    assert restorer(y).isfinite().all()
    benchmark.group, benchmark.name = case, name
    benchmark.pedantic(restorer, (y,), rounds=3, warmup_rounds=0)
