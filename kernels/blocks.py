"""Sizes of one program of each Triton kernel, in one table, chosen by what the compiler reports (bench/kernels.py).

Fixed rather than tuned at run time: no first call is slow, and a result does not hang on which size won.
"""

WARPS = 4
ENTRIES = 512  # pixels or coefficients: 4 for each thread, a load of 16 bytes in float32
PAIRS = 256  # complex numbers
COUNTERS = 128  # Philox counters, of four numbers each; a multiple of 64

JPEG_WARPS = 8
LUMA_BLOCKS = 4  # 8x8 blocks of luma: one entry for each thread, and their chroma on top
