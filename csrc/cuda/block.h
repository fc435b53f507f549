// How a kernel with barriers is written so that it also runs on the CPU: as phases, each of which all threads of a
// block end before the next begins. A block hands out `each_thread(f)`, one phase of f(thread), and `Registers`, what a
// thread keeps from phase to phase.
#pragma once
#include <cstring>

#include "../core/config.h"

namespace LMAPS_NAMESPACE {

#ifdef __CUDACC__

struct DeviceBlock {
  template <typename F>
  __device__ void each_thread(F&& f) const {
    f(int(threadIdx.x));
    __syncthreads();
  }

  template <typename T, int N>
  struct Registers {
    T value[N];
    __device__ T (&operator[](int)) [N] { return value; }
  };
};

#else

template <int kThreads>
struct EmulatedBlock {
  // In no order, so that a thread that reads what its neighbour writes in the same phase gives itself away.
  template <typename F>
  void each_thread(F&& f) const {
    static_assert(kThreads % 37 != 0);
    for (int i = 0; i < kThreads; ++i) f(i * 37 % kThreads);
  }

  template <typename T, int N>
  struct Registers {
    T value[kThreads][N];
    T (&operator[](int thread)) [N] { return value[thread]; }
  };
};

// The blocks of a grid: kernel(block, shared memory, index). What a block has not written is NaN.
template <typename Kernel>
void emulate(const Kernel& kernel, int64_t blocks) {
  typename Kernel::Shared shared;
  for (int64_t index = 0; index < blocks; ++index) {
    std::memset(static_cast<void*>(&shared), 0xff, sizeof shared);
    EmulatedBlock<Kernel::kThreads> block;
    kernel(block, shared, index);
  }
}

#endif

}  // namespace LMAPS_NAMESPACE
