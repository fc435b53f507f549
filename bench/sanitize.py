"""Each CUDA kernel once, on ragged sizes: what `bench/gpu.sh` runs under compute-sanitizer."""

import baselines
import torch

import lmaps_fast as lf
from lmaps_fast import ops
from lmaps_fast.noise import SAMPLER, keys

TASKS = ("inpainting_random", "gaussian_deblurring", "phase_retrieval", "high_dynamic_range", "quantization")
SHAPES = ((3, 37, 53), (1, 48, 64))


def run(device: str = "cuda") -> None:
    """The local MAP of each task, and the fused step of those that have one."""
    each = [lf.local_map.Weights(0.3, 5.0, 0.02, steps) for steps in (5, 3)]  # a row of numbers for each image
    for task in (*TASKS, "jpeg_restoration"):
        for shape in SHAPES:
            for dtype in (torch.float32, torch.float64):
                operator = lf.operators.create(task, shape, dtype=dtype, device=device)
                x = torch.rand(2, *shape, dtype=dtype, device=device) * 2 - 1
                y = operator.measure(x)
                for weights in (each[0], each):
                    lf.local_map.solve(operator, x, y, weights, backend=device)
                pixel_map = lf.local_map.Problem(operator, y).pixel_map
                if pixel_map is None or dtype == torch.float64:
                    continue
                levels = torch.cat([baselines.levels_of_a_step(weights, x.device) for weights in each])
                for layout in (torch.contiguous_format, torch.channels_last):
                    F = x.to(torch.bfloat16, memory_format=layout)
                    buffers = (x.clone(), torch.empty_like(x), torch.empty_like(F), F)
                    key = keys(SAMPLER, 0, range(2), device)
                    ops.step(pixel_map, *buffers, keys=key, levels=levels, most=5, backend=device)


if __name__ == "__main__":
    run()
    torch.cuda.synchronize()
