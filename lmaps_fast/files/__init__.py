"""Image files, JPEG coefficients and arrays. The ranges of pixels are known here and nowhere else."""
