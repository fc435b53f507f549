// The namespace and the function qualifier that let one source serve every CPU instruction set and the GPU.
#pragma once
#include <cstdint>

#ifdef __CUDACC__
#define LMAPS_FN __host__ __device__ __forceinline__
#else
#define LMAPS_FN inline __attribute__((always_inline))
#endif

// Each instruction set compiles the functors into a namespace of its own: a template that the linker merged across
// them could put AVX-512 instructions into the baseline path.
#ifndef LMAPS_NAMESPACE
#define LMAPS_NAMESPACE lmaps_device
#endif
