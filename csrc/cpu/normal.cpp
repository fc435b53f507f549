// The loop around core/normal.h: SIMD along the counters of a block, threads over blocks.
#include "../core/normal.h"

#include "../core/rows.h"
#include "loops.h"

namespace LMAPS_NAMESPACE {
namespace {

template <typename T>
void add(const NormalArguments& a, int threads) {
  const int64_t blocks = (a.pixels + kNormals - 1) / kNormals;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t task = 0; task < a.images * blocks; ++task) {
    const int64_t n = task / blocks, begin = task % blocks * kNormals;
    const int64_t count = a.pixels - begin < kNormals ? a.pixels - begin : kNormals;
    float normal[kNormals];
    normals<kCounters>(a.keys[n], draw_of(a, n), task % blocks * kCounters, normal);
    const T sigma = T(sigma_of(a, n));
    const T* x = static_cast<const T*>(a.x) + n * a.pixels + begin;
    T* out = static_cast<T*>(a.out) + n * a.pixels + begin;
    for (int64_t j = 0; j < count; ++j) out[j] = x[j] + sigma * T(normal[j]);
  }
}

}  // namespace

void add_normal(const NormalArguments& a, int threads) {
  a.is_double ? add<double>(a, threads) : add<float>(a, threads);
}

}  // namespace LMAPS_NAMESPACE
