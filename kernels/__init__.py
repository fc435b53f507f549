"""Triton kernels, installed as lmaps_fast.kernels: for GPUs without a CUDA build of the extension, and for AMD."""
