// Launches what is written for one thread in threads.h.
#pragma once
#include <cuda_runtime.h>

#include "threads.h"

namespace LMAPS_NAMESPACE {

constexpr int kLaneThreads = 256;

template <typename Thread>
__global__ void __launch_bounds__(kLaneThreads, Thread::kResident)
    each_lane(const __grid_constant__ Thread thread, int64_t images, int64_t count) {
  const int64_t i = blockIdx.x * int64_t(kLaneThreads) + threadIdx.x;
  if (i >= count) return;
  for (int64_t n = blockIdx.y; n < images; n += gridDim.y) thread(Lane{n, i / kCounters, int(i % kCounters)});
}

template <typename Thread>
int launch_lanes(const Thread& thread, int64_t images, int64_t pixels, void* stream) {
  const int64_t count = lanes(pixels);
  const dim3 grid(unsigned((count + kLaneThreads - 1) / kLaneThreads), unsigned(images < 65535 ? images : 65535));
  each_lane<<<grid, kLaneThreads, 0, static_cast<cudaStream_t>(stream)>>>(thread, images, count);
  return cudaGetLastError();
}

}  // namespace LMAPS_NAMESPACE
