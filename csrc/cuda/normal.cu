// Launcher of core/normal.h: a thread makes the four numbers of one counter.
#include "kernels.h"
#include "lanes.h"

int cuda_add_normal(const NormalArguments& a, void* stream) {
  using namespace LMAPS_NAMESPACE;
  return a.is_double ? launch_lanes(AddNormalThread<double>{a}, a.images, a.pixels, stream)
                     : launch_lanes(AddNormalThread<float>{a}, a.images, a.pixels, stream);
}
