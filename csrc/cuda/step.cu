// Launcher of core/step.h.
#include "kernels.h"
#include "lanes.h"

int cuda_step(const StepArguments& a, void* stream) {
  using namespace LMAPS_NAMESPACE;
  if (a.name == Pointwise::jpeg_map) return cuda_jpeg_step(a, stream);
  const Between& b = a.between;
  int code = cudaErrorInvalidValue;
  with_functor(a, [&](const auto& f) {
    code = launch_lanes(StepThread<std::decay_t<decltype(f)>>{f, b}, b.batch, b.channels * b.height * b.width, stream);
  });
  return code;
}
