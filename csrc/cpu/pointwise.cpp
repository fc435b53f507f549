// The loops around the functors of core/pointwise.h: SIMD along pixels, threads over chunks of all rows.
#include "../core/pointwise.h"

#include "loops.h"

namespace LMAPS_NAMESPACE {
namespace {

constexpr int64_t kChunk = 4096;  // pixels per task
constexpr int kBlock = 128;       // pixels per call of a functor: enough vectors to hide the latency of a recursion

template <typename T>
LMAPS_FN void copy(const T* from, T* to, int64_t count) {
  if (count == kBlock)  // of constant length: vector moves
    for (int j = 0; j < kBlock; ++j) to[j] = from[j];
  else
    for (int64_t j = 0; j < count; ++j) to[j] = from[j];
}

template <typename T, typename Functor>
void loop(const PointwiseArguments& a, int threads) {
  const int64_t chunks = (a.pixels + kChunk - 1) / kChunk;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t task = 0; task < a.images * a.rows_per_image * chunks; ++task) {
    const int64_t row = task / chunks, image = row / a.rows_per_image, begin = task % chunks * kChunk;
    const int64_t end = begin + kChunk < a.pixels ? begin + kChunk : a.pixels;
    const Functor f = functor_of<Functor>(a, image);
    const T *D = static_cast<const T*>(a.D) + row * a.pixels, *y = static_cast<const T*>(a.y) + row * a.pixels;
    const int64_t s_at = s_row(a.s_images, a.s_rows, image, row % a.rows_per_image) * a.pixels;
    const T* s = kTakesS<Functor, T> ? static_cast<const T*>(a.s) + s_at : nullptr;
    T* out = static_cast<T*>(a.out) + row * a.pixels;
    T block[4][kBlock] = {};
    for (int64_t i = begin; i < end; i += kBlock) {
      const int64_t count = end - i < kBlock ? end - i : kBlock;
      copy(D + i, block[0], count);
      copy(y + i, block[1], count);
      if constexpr (kTakesS<Functor, T>) {
        copy(s + i, block[2], count);
        f(block[0], block[1], block[2], block[3]);
      } else {
        f(block[0], block[1], block[3]);
      }
      copy(block[3], out + i, count);
    }
  }
}

template <typename T>
void select(const PointwiseArguments& a, int threads) {
  with_pointwise<T>(a.name, [&](auto type) { loop<T, typename decltype(type)::type>(a, threads); });
}

}  // namespace

void pointwise(const PointwiseArguments& a, int threads) {
  a.is_double ? select<double>(a, threads) : select<float>(a, threads);
}

}  // namespace LMAPS_NAMESPACE
