"""From a solver, an operator and a denoiser to restored images: schedules, CUDA graphs, and the front door."""
