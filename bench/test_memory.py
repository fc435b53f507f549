"""Peak memory of one local MAP on a large image. `pytest bench/test_memory.py -s`"""

import os
import subprocess
import sys
from pathlib import Path

import cases
import pytest

# In a process of its own: the kernel's record of the peak, which it lets a process reset, covers FFT workspaces too.
SCRIPT = """
import re, sys, torch, baselines, cases
from lmaps_fast.local_map import Problem

def memory(field):
    return int(re.search(field + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024

torch.set_num_threads(cases.THREADS)
task, arguments, _ = cases.LOCAL_MAP[sys.argv[1]]
small = baselines.problem(task, (3, 64, 64), cases.SIGMA, **arguments)  # loads every library
with torch.no_grad():
    Problem(small[0], small[2])(small[1], small[3])
    operator, D, y, weights = baselines.problem(task, cases.MEMORY_SHAPE, cases.SIGMA, **arguments)
    problem = Problem(operator, y)
    del y
    weights = type(weights)(weights.lam, weights.k2, weights.lr, 3)  # as many buffers as 100 steps
    before = memory("VmRSS")
    open("/proc/self/clear_refs", "w").write("5")
    result = problem(D, weights)
    print((memory("VmHWM") - before - result.nbytes) / D.nbytes)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux keeps and resets the peak")
@pytest.mark.parametrize("case", cases.LOCAL_MAP)
def test_peak_of_a_local_map(case):
    folders = [os.path.dirname(__file__), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
    command = [sys.executable, "-c", SCRIPT, case]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    buffers = float(run.stdout)
    print(f"\n{case}: {buffers:.1f} image-sized buffers beyond the arguments and the result")
    assert buffers <= cases.MEMORY_BUFFERS
