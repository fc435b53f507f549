"""How the local MAP grows with the image: `python bench/growth.py [--tasks super_resolution ...] [--sides 256 4096]`

Prints, for each task, the milliseconds of one local MAP (3 channels, float32, K = 100, on two threads) at each side of
a square image, the exponent of its time in pixels (least squares of logarithms), and at the largest side: the seconds
that the operator takes to make and that a measurement takes to prepare, and the peak memory of one local MAP beyond its
operator, its arguments and its result, in images. Each task has a process of its own; times are medians.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # where cores are shared, waiting threads would take them

import numpy as np
import torch
import torch.nn.functional as F

import lmaps_fast as lf

THREADS, CHANNELS, INNER_STEPS, SIGMA = 2, 3, 100, 1.0
SIDES = (256, 512, 1024, 2048, 4096)
LEAST_SECONDS, LEAST_REPEATS, MOST_REPEATS = 1.0, 3, 50
# A local MAP that takes this long is measured once.
LONG = 20.0
TASKS: dict[str, tuple[str, dict]] = {
    "super_resolution": ("super_resolution", {}),
    "inpainting_box": ("inpainting_box", {}),
    "inpainting_random": ("inpainting_random", {}),
    "gaussian_deblurring": ("gaussian_deblurring", {}),
    "circular_blur": ("motion_deblurring", {"padding": "circular"}),
    "motion_deblurring": ("motion_deblurring", {}),
    "phase_retrieval": ("phase_retrieval", {}),
    "high_dynamic_range": ("high_dynamic_range", {}),
    "jpeg_restoration": ("jpeg_restoration", {}),
    "quantization": ("quantization", {}),
    "denoising": ("denoising", {}),
}


def images(shape: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth random image x and its noisy estimate D, [1, C, H, W]."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, shape[0], 16, 16, generator=generator)
    x = F.interpolate(coarse, shape[1:], mode="bicubic").clamp(-1, 1)
    return x, torch.randn(x.shape, generator=generator).mul_(0.1).add_(x)


def memory(field: str) -> int:
    """A field of /proc/self/status in bytes."""
    found = re.search(field + r":\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


@torch.no_grad()
def measure(task: str, side: int, clock: Callable[[], float]) -> dict[str, float]:
    """Seconds of set-up, of a measurement's preparation and of one local MAP; peak memory in images."""
    name, arguments = TASKS[task]
    shape = (CHANNELS, side, side)
    x, D = images(shape)
    start = time.perf_counter()
    operator = lf.operators.create(name, shape=shape, **arguments)
    set_up = time.perf_counter() - start
    y = operator.measure(x)
    del x
    weights = lf.operators.preset(name, "paper").weights(SIGMA)
    weights = lf.local_map.Weights(weights.lam, weights.k2, weights.lr, INNER_STEPS)
    start = time.perf_counter()
    problem = lf.local_map.Problem(operator, y)
    prepare = time.perf_counter() - start
    del y
    before, reset = memory("VmRSS"), Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")
    start = clock()
    result = problem(D, weights)
    first = clock() - start
    peak = (memory("VmHWM") - before - result.nbytes) / D.nbytes
    del result
    times: list[float] = [first] if first > LONG else []
    began = time.perf_counter()
    while first <= LONG and len(times) < MOST_REPEATS:
        start = clock()
        problem(D, weights)
        times.append(clock() - start)
        if len(times) >= LEAST_REPEATS and time.perf_counter() - began > LEAST_SECONDS:
            break
    return {"seconds": statistics.median(times), "set_up": set_up, "prepare": prepare, "peak": peak}


def processor_clock() -> float:
    """Seconds of all threads of this process, over their number."""
    return time.process_time() / THREADS


def exponent(sides: list[int], seconds: list[float]) -> float:
    """The slope of log time over log pixels."""
    return float(np.polyfit(2 * np.log(sides), np.log(seconds), 1)[0]) if len(sides) > 1 else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="default: all")
    parser.add_argument("--sides", nargs="+", type=int, default=list(SIDES), help="of square images, in pixels")
    parser.add_argument(
        "--processor",
        action="store_true",
        help="time of the processors, divided by the threads, instead of time on the wall: where others use them too",
    )
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    clock = processor_clock if options.processor else time.perf_counter
    if options.worker:
        measure(options.tasks[0], 64, clock)  # loads every library
        for side in options.sides:
            print(json.dumps(measure(options.tasks[0], side, clock)), flush=True)
        return
    sides = sorted(options.sides)
    print(f"local MAP, {CHANNELS} channels, float32, K = {INNER_STEPS}, {THREADS} threads, torch {torch.__version__}")
    print("time of the processors over threads" if options.processor else "time on the wall")
    print(f"milliseconds at each side; at {sides[-1]}: set-up and preparation in seconds, peak memory in images")
    print(f"{'task':20}" + "".join(f"{side:>10}" for side in sides) + "  exponent   set-up  prepare  peak")
    for task in options.tasks:
        command = [sys.executable, __file__, "--worker", "--tasks", task, "--sides", *map(str, sides)]
        command += ["--processor"] * options.processor
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows = [json.loads(line) for line in run.stdout.splitlines()]
        seconds, last = [row["seconds"] for row in rows], rows[-1]
        print(
            f"{task:20}"
            + "".join(f"{1e3 * s:>10.4g}" for s in seconds)
            + f"  {exponent(sides, seconds):>8.3f}"
            + f"  {last['set_up']:>7.2f}  {last['prepare']:>7.2f}  {last['peak']:>4.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
