"""Times on a GPU: each kernel against the copy bandwidth, whole restorations against their bare network calls.

`python bench/gpu.py` prints tables and writes bench/results/<device>.json. Medians of interleaved runs; a kernel is
timed inside a CUDA graph of 50 launches, so that what Python costs is left out.
"""

import argparse
import json
import statistics
from functools import partial
from pathlib import Path

import baselines
import torch

import lmaps_fast as lf
from lmaps_fast import ops
from lmaps_fast.denoisers import adm
from lmaps_fast.files.image import write_bytes
from lmaps_fast.local_map import Problem, gradient_descent
from lmaps_fast.noise import SAMPLER, keys
from lmaps_fast.race.published import as_published
from lmaps_fast.weights import table

DEVICE = "cuda"
SHAPE = (3, 256, 256)
SIZES = ((1, *SHAPE), (16, 3, 512, 512))
BATCHES, STEPS = (1, 4, 16), (20, 200)
TASKS = ("inpainting_random", "high_dynamic_range", "quantization", "jpeg_restoration")
COMPILED = ("inpainting_random", "gaussian_deblurring", "jpeg_restoration")  # a loop takes half a minute to compile
LAUNCHES, ROUNDS = 50, 7


def seconds(run, repeats=1):
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(repeats):
        run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3 / repeats


def of_graph(run):
    """Seconds of one call of `run`, in a graph of many."""
    run()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(LAUNCHES):
            run()
    graph.replay()
    return statistics.median(seconds(graph.replay) for _ in range(ROUNDS)) / LAUNCHES


def kernels(size):
    """Time, bytes and share of the copy bandwidth of each kernel at [B, C, H, W] = size, K = 100."""
    x = torch.rand(size, device=DEVICE) * 2 - 1
    copy, target = torch.empty_like(x), torch.zeros(1, device=DEVICE)
    image = x.numel() * 4
    bandwidth = 2 * image / of_graph(lambda: copy.copy_(x))
    empty = of_graph(lambda: target.zero_())
    noise = keys(SAMPLER, 0, range(size[0]), DEVICE)
    draw, sigma = torch.zeros(1, dtype=torch.int64, device=DEVICE), torch.tensor([0.5], device=DEVICE).double()
    F = x.to(torch.bfloat16, memory_format=torch.channels_last)
    rows = {"add_normal": (lambda: ops.add_normal(x, noise, draw, sigma, backend=DEVICE), 2 * image)}
    for task in TASKS:
        operator = lf.operators.create(task, size[1:], device=DEVICE)
        weights = operator.preset("paper").weights(1.0)
        problem = Problem(operator, operator.measure(x), DEVICE)
        state, x0, following = x.clone(), torch.empty_like(x), torch.empty_like(F)
        rows[f"{task} map"] = (partial(problem, x, table(weights, x.device)), 3 * image)
        step = partial(
            ops.step,
            *(problem.pixel_map, state, x0, following, F),
            keys=noise,
            levels=baselines.levels_of_a_step(weights, x.device),
            most=weights.steps,
            backend=DEVICE,
        )
        moved = 5 * image  # of float32: x, y, x0, next x; of bfloat16: F and the next input
        rows[f"{task} step"] = (step, moved)
    found = []
    for name, (run, moved) in rows.items():
        t = of_graph(run)
        found.append(
            {"kernel": name, "size": list(size), "us": t * 1e6, "bytes": moved, "of copy": moved / t / bandwidth}
        )
        print(f"{name:32} {'x'.join(map(str, size)):>14} {t * 1e6:9.1f} us {moved / t / bandwidth:6.1%} of copy")
    print(f"{'empty launch':32} {'':14} {empty * 1e6:9.1f} us; copy {bandwidth / 1e12:.2f} TB/s")
    return {"bandwidth": bandwidth, "empty_us": empty * 1e6, "kernels": found}


def local_maps():
    """The collapsed local MAP against the loop, eager and compiled, and the blur as published; 1x3x256x256, K = 100.

    Weights are on the device, as solvers have them."""
    found = []
    compiled = baselines.compiled_loop()
    for task in (*TASKS, "super_resolution", "gaussian_deblurring", "motion_deblurring", "phase_retrieval"):
        operator, D, y, weights = baselines.problem(task, SHAPE, 1.0, device=DEVICE)
        problem, weights = Problem(operator, y), table(weights, D.device)
        runs = {
            "collapsed": lambda p=problem, D=D, w=weights: p(D, w),
            "eager": lambda o=operator, D=D, y=y, w=weights: gradient_descent(o, D, y, w),
        }
        if task in COMPILED:
            runs["compile"] = lambda o=operator, D=D, y=y, w=weights: compiled(o, D, y, w)
        if task == "gaussian_deblurring":
            twin = as_published(operator)
            runs["as published"] = lambda o=twin, D=D, y=y, w=weights: gradient_descent(o, D, y, w)
        for run in runs.values():
            run()
        times = {name: statistics.median(seconds(run) for _ in range(ROUNDS)) for name, run in runs.items()}
        found.append({"task": task, **{name: t * 1e6 for name, t in times.items()}})
        ratios = ", ".join(f"{name} {t / times['collapsed']:.1f}x" for name, t in times.items() if name != "collapsed")
        print(f"{task:24} {times['collapsed'] * 1e6:9.1f} us; {ratios}")
    return found


@torch.no_grad()
def interleaved(first, second):
    """Median seconds of the first (function, argument), and the median ratio to the second."""
    runs = [lambda run=run, x=x: run(x) for run, x in (first, second)]
    for run in runs:
        run()
    pairs = [tuple(seconds(run) for run in runs) for _ in range(ROUNDS)]
    return statistics.median(a for a, _ in pairs), statistics.median(a / b for a, b in pairs)


def end_to_end(denoiser, name, tasks=("inpainting_random", "gaussian_deblurring", "jpeg_restoration")):
    """A restoration, whose steps are graphs, over the same network calls in one graph of their own, interleaved."""
    found = []
    for task in tasks:
        for batch in BATCHES:
            operator = lf.operators.create(task, SHAPE, device=DEVICE)
            y = operator.measure(torch.rand(batch, *SHAPE, device=DEVICE) * 2 - 1)
            for steps in STEPS:
                if steps > min(STEPS) and batch > 1:
                    continue
                restorer = lf.Restorer(operator, denoiser, steps=steps, preset="paper")
                network, sigmas = restorer.solver.network, restorer.solver.sigmas(restorer.settings[0])[:-1]
                levels = network.condition(torch.tensor(sigmas, dtype=torch.float64)).float().to(DEVICE)
                levels = levels[:, None].repeat(1, batch)
                x = torch.zeros_like(y, dtype=network.dtype).to(memory_format=torch.channels_last)

                def calls(x, network=network, conditions=levels):
                    for condition in conditions:
                        F = network.evaluate(x, condition)
                    return F

                whole, ratio = interleaved((restorer, y), (lf.graphs.Captured(calls), x))
                row = {"prior": name, "task": task, "batch": batch, "steps": steps, "ms": whole * 1e3, "ratio": ratio}
                found.append(row | {"captured": "no" if restorer.graphs is None else "yes"})
                print(f"{name} {task:20} B {batch:2} N {steps:3}: {whole * 1e3:8.2f} ms, / network {ratio:.3f}")
    return found


def ffhq_network():
    """The public FFHQ-256 architecture in bfloat16."""
    network = adm.build("ffhq_256x256")
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    return lf.denoisers.ADM("random weights", DEVICE, torch.bfloat16, network.state_dict())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tests-passed", choices=("yes", "no"), default="no")
    passed = parser.parse_args().tests_passed == "yes"
    if not torch.cuda.is_available():
        raise SystemExit("bench/gpu.py needs an NVIDIA GPU that torch can use")
    device = torch.cuda.get_device_name()
    print(f"{device}, torch {torch.__version__}")
    path = Path(__file__).parent / "results" / f"{device.replace(' ', '-')}.json"
    result = {"device": device, "torch": torch.__version__, "tests passed": passed}

    def add(section, rows):  # written after each section, so that a run that is cut short leaves what it has
        result[section] = rows
        write_bytes(path, json.dumps(result, indent=1).encode())

    path.parent.mkdir(exist_ok=True)
    add("kernels", [kernels(size) for size in SIZES])
    add("end_to_end", end_to_end(lf.denoisers.load("natural", DEVICE), "natural"))
    try:
        add("ffhq_end_to_end", end_to_end(ffhq_network(), "FFHQ-256, random weights", ("inpainting_random",)))
    except lf.InputError as error:
        print(f"the FFHQ-256 network was not timed: {error}")
    if passed:
        add("local_map", local_maps())
    else:
        print("no speed-ups are printed, since the tests did not pass")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
