// The loop around core/step.h: SIMD along the blocks of normal numbers of an image, threads over blocks.
#include "loops.h"
#include "surroundings.h"

namespace LMAPS_NAMESPACE {
namespace {

template <typename Functor>
void loop(const StepArguments& a, int threads) {
  const int64_t pixels = a.height * a.width, size = a.channels * pixels, blocks = (size + kNormals - 1) / kNormals;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t task = 0; task < a.batch * blocks; ++task) {
    const int64_t n = task / blocks, begin = task % blocks * kNormals;
    const Run run{n, begin, int(size - begin < kNormals ? size - begin : kNormals)};
    const Levels levels = numbers_of(a, n);
    const Functor f = functor_of<Functor>(a, n);
    float D[kNormals], y[kNormals] = {}, x0[kNormals];
    before(a, levels, run, D);
    copy(a.y + n * size + begin, y, run.count);
    if constexpr (kTakesS<Functor, float>) {
      float s[kNormals] = {};
      each_channel(a, run, [&](int first, int64_t c, int64_t hw, int count) {
        copy(a.s + s_row(a.s_images, a.s_channels, n, c) * pixels + hw, s + first, count);
      });
      f(D, y, s, x0);
    } else {
      f(D, y, x0);
    }
    after(a, levels, run, x0);
  }
}

}  // namespace

void step(const StepArguments& a, int threads) {
  if (a.name == Pointwise::jpeg_map) return jpeg_step(a, threads);
  with_pointwise<float>(a.name, [&](auto type) {
    using Functor = typename decltype(type)::type;
    if constexpr (Functor::kGivesX0) loop<Functor>(a, threads);
  });
}

}  // namespace LMAPS_NAMESPACE
