"""What is measured: data only."""

SHAPE = (3, 256, 256)
THREADS = 2
INNER_STEPS = 100  # K
NETWORK_CALLS = 20  # N, end to end
SIGMA = 1.0  # the noise level whose weights (the paper's preset) the local MAP is timed at

# Least speed-ups of the collapsed local MAP over the eager loop and over its torch.compile that this project holds
# itself to, by task (and its parameters).
FILTER, RECURSION = {"eager": 40.0, "compile": 5.0}, {"eager": 15.0, "compile": 3.0}
LOCAL_MAP: dict[str, tuple[str, dict, dict]] = {
    "super_resolution": ("super_resolution", {}, FILTER),
    "inpainting_box": ("inpainting_box", {}, FILTER),
    "inpainting_random": ("inpainting_random", {}, FILTER),
    "gaussian_deblurring": ("gaussian_deblurring", {}, FILTER | {"as published": 300.0}),
    "circular blur": ("motion_deblurring", {"padding": "circular"}, FILTER),
    "motion_deblurring": ("motion_deblurring", {}, {"eager": 3.0, "compile": 1.5}),
    "phase_retrieval": ("phase_retrieval", {}, {"eager": 2.0, "compile": 2.0}),
    "high_dynamic_range": ("high_dynamic_range", {}, RECURSION),
    "jpeg_restoration": ("jpeg_restoration", {}, FILTER),
    "quantization": ("quantization", {}, RECURSION),
    "denoising": ("denoising", {}, FILTER),
}

# The most that a restoration may cost in terms of its bare network calls, where the local MAP collapses into one pass
# or one filter.
END_TO_END = 1.05
END_TO_END_TASKS = (
    "super_resolution",
    "inpainting_box",
    "inpainting_random",
    "gaussian_deblurring",
    "high_dynamic_range",
    "jpeg_restoration",
    "quantization",
    "denoising",
)

# The most image-sized buffers that a local MAP may hold beyond its operator, its arguments and its result.
MEMORY_SHAPE, MEMORY_BUFFERS = (3, 2048, 2048), 6.0
