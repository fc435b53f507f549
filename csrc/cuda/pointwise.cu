// Launcher of packs.h: a grid-stride loop over the packs of a row; the grid's second dimension walks over rows.
#include <cuda_runtime.h>

#include "kernels.h"
#include "packs.h"

namespace LMAPS_NAMESPACE {
namespace {

constexpr int kThreads = 256;

template <typename Thread>
__global__ void __launch_bounds__(kThreads, 4) each_pack(const __grid_constant__ Thread thread, int64_t rows) {
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y)
    thread(row, blockIdx.x * int64_t(kThreads) + threadIdx.x, int64_t(gridDim.x) * kThreads);
}

template <typename T>
int launch(const PointwiseArguments& a, void* stream) {
  int code = cudaErrorInvalidValue;
  with_widest_packs<T>(a, [&](const auto& thread) {
    const int64_t rows = a.images * a.rows_per_image, blocks = (thread.packs() + kThreads - 1) / kThreads;
    const dim3 grid(unsigned(blocks < 65535 ? blocks : 65535), unsigned(rows < 65535 ? rows : 65535));
    each_pack<<<grid, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(thread, rows);
    code = cudaGetLastError();
  });
  return code;
}

}  // namespace
}  // namespace LMAPS_NAMESPACE

int cuda_pointwise(const PointwiseArguments& a, void* stream) {
  return a.is_double ? LMAPS_NAMESPACE::launch<double>(a, stream) : LMAPS_NAMESPACE::launch<float>(a, stream);
}

const char* cuda_error(int code) { return cudaGetErrorString(static_cast<cudaError_t>(code)); }
