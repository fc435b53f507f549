// The loop around core/step.h: SIMD along the blocks of normal numbers of an image, threads over blocks.
#include "loops.h"
#include "surroundings.h"

namespace LMAPS_NAMESPACE {
namespace {

template <typename Functor>
void loop(const Functor& f, const Between& b, int threads) {
  const int64_t pixels = b.height * b.width, size = b.channels * pixels, blocks = (size + kNormals - 1) / kNormals;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t task = 0; task < b.batch * blocks; ++task) {
    const int64_t n = task / blocks, begin = task % blocks * kNormals;
    const Run run{n, begin, int(size - begin < kNormals ? size - begin : kNormals)};
    float D[kNormals], y[kNormals] = {}, x0[kNormals];
    before(b, run, D);
    copy(b.y + n * size + begin, y, run.count);
    if constexpr (kTakesS<Functor, float>) {
      float s[kNormals] = {};
      each_channel(b, run, [&](int first, int64_t, int64_t hw, int count) {
        copy(b.s + n % b.s_rows * pixels + hw, s + first, count);
      });
      f(D, y, s, x0);
    } else {
      f(D, y, x0);
    }
    after(b, run, x0);
  }
}

}  // namespace

void step(const StepArguments& a, int threads) {
  if (a.name == Pointwise::jpeg_map)
    jpeg_step(a, threads);
  else
    with_functor(a, [&](const auto& f) { loop(f, a.between, threads); });
}

}  // namespace LMAPS_NAMESPACE
