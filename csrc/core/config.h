// The namespace, the function qualifier and a loop's pragma that let one source serve every CPU instruction set and the
// GPU.
#pragma once
#include <cstdint>

#ifdef __CUDACC__
#define LMAPS_FN __host__ __device__ __forceinline__
#else
#define LMAPS_FN inline __attribute__((always_inline))
#endif

// Before a loop that a GPU should not unroll.
#ifdef __CUDA_ARCH__
#define LMAPS_ROLLED _Pragma("unroll 1")
#else
#define LMAPS_ROLLED
#endif

// Each instruction set compiles the functors into a namespace of its own: a template that the linker merged across
// them could put AVX-512 instructions into the baseline path.
#ifndef LMAPS_NAMESPACE
#define LMAPS_NAMESPACE lmaps_device
#endif
