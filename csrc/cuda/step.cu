// Launcher of core/step.h.
#include "kernels.h"
#include "lanes.h"

int cuda_step(const StepArguments& a, void* stream) {
  using namespace LMAPS_NAMESPACE;
  if (a.name == Pointwise::jpeg_map) return cuda_jpeg_step(a, stream);
  int code = cudaErrorInvalidValue;
  with_pointwise<float>(a.name, [&](auto type) {
    using Functor = typename decltype(type)::type;
    if constexpr (Functor::kGivesX0)
      code = launch_lanes(StepThread<Functor>{a}, a.batch, a.channels * a.height * a.width, stream);
  });
  return code;
}
