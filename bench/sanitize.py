"""Each CUDA kernel once, on ragged sizes: what `bench/gpu.sh` runs under compute-sanitizer."""

import torch

import lmaps_fast as lf
from lmaps_fast import ops
from lmaps_fast.renoise import SAMPLER, Noise

TASKS = ("inpainting_random", "gaussian_deblurring", "phase_retrieval", "high_dynamic_range", "quantization")
weights = lf.local_map.Weights(0.3, 5.0, 0.02, 5)
for task in (*TASKS, "jpeg_restoration"):
    for shape in ((3, 37, 53), (1, 48, 64)):
        for dtype in (torch.float32, torch.float64):
            operator = lf.operators.create(task, shape, dtype=dtype, device="cuda")
            x = torch.rand(2, *shape, dtype=dtype, device="cuda") * 2 - 1
            y = operator.measure(x)
            lf.local_map.solve(operator, x, y, weights, backend="cuda")
            pixel_map = lf.local_map.Problem(operator, y).pixel_map
            if pixel_map is None or dtype == torch.float64:
                continue
            keys = Noise(SAMPLER, 0, range(2), shape, device="cuda").keys
            for layout in (torch.contiguous_format, torch.channels_last):
                F = x.to(torch.bfloat16, memory_format=layout)
                buffers = (F, x.clone(), torch.empty_like(x), torch.empty_like(F))
                ops.step(pixel_map, *buffers, keys, 0, ops.Between(0.5, 0.3, 0.2, 0.4, 0.9), weights)
torch.cuda.synchronize()
