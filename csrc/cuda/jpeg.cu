// Launcher of jpeg_block.h.
#include <cuda_runtime.h>

#include "block.h"
#include "jpeg_block.h"
#include "jpeg_images.h"
#include "kernels.h"

namespace LMAPS_NAMESPACE {
namespace {

template <typename Kernel>
__global__ void __launch_bounds__(Kernel::kThreads, Kernel::kResident) run(const __grid_constant__ Kernel kernel) {
  __shared__ typename Kernel::Shared shared;
  kernel(DeviceBlock{}, shared, blockIdx.x);
}

template <typename Images>
int launch(const Images& images, void* stream) {
  const JpegBlock<Images> kernel(images);
  run<<<unsigned(kernel.grid.blocks), kernel.kThreads, 0, static_cast<cudaStream_t>(stream)>>>(kernel);
  return cudaGetLastError();
}

}  // namespace
}  // namespace LMAPS_NAMESPACE

int cuda_jpeg_map(const JpegArguments& a, void* stream) {
  using namespace LMAPS_NAMESPACE;
  return a.is_double ? launch(MapImages<double>(a), stream) : launch(MapImages<float>(a), stream);
}

int cuda_jpeg_step(const StepArguments& a, void* stream) {
  return LMAPS_NAMESPACE::launch(LMAPS_NAMESPACE::StepImages{a}, stream);
}
