"""For which tasks the solvers beside LMAPS have published settings; the settings stand with each solver."""

from lmaps_fast.errors import InputError

# Those of the public code of DAPS, SITCOM and DPS, for FFHQ 256x256. Denoising, which nobody published, has the
# settings of the other tasks with noise .05; JPEG restoration and quantization, where A has no useful derivative, have
# none.
TASKS = (
    "super_resolution",
    "inpainting_box",
    "inpainting_random",
    "gaussian_deblurring",
    "motion_deblurring",
    "phase_retrieval",
    "nonlinear_deblurring",
    "high_dynamic_range",
    "denoising",
)


def with_settings_for(solver: str, task: str) -> None:
    """Raise InputError unless a solver has published settings for the task."""
    if task not in TASKS:
        raise InputError(f"{solver} has no published settings for {task!r}: give settings of your own")
