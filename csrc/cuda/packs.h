// What one thread of the pointwise kernels does: packs of N pixels, of 16 bytes where rows are aligned.
#pragma once
#include "../core/pointwise.h"

namespace LMAPS_NAMESPACE {

template <typename T, int N>
struct alignas(sizeof(T) * N) Pack {
  T value[N];
};

template <typename T, int N, typename Functor>
struct PackThread {
  PointwiseArguments a;

  LMAPS_FN int64_t packs() const { return a.pixels / N; }  // of a row

  // Packs first, first + stride, ... of a row, with the functor of its image.
  LMAPS_FN void operator()(int64_t row, int64_t first, int64_t stride) const {
    using P = Pack<T, N>;
    const int64_t image = row / a.rows_per_image, at = row * packs();
    const int64_t s_at = s_row(a.s_images, a.s_rows, image, row % a.rows_per_image) * packs();
    const Functor f = functor_of<Functor>(a, image);
    for (int64_t i = first; i < packs(); i += stride) {
      const P D = static_cast<const P*>(a.D)[at + i], y = static_cast<const P*>(a.y)[at + i];
      P out;
      if constexpr (kTakesS<Functor, T>) {
        const P s = static_cast<const P*>(a.s)[s_at + i];
        f(D.value, y.value, s.value, out.value);
      } else {
        f(D.value, y.value, out.value);
      }
      static_cast<P*>(a.out)[at + i] = out;
    }
  }
};

// run(the thread of this kernel with the widest packs that its rows allow)
template <typename T, typename Run>
void with_widest_packs(const PointwiseArguments& a, Run&& run) {
  constexpr int kWide = 16 / sizeof(T);
  const auto bits = reinterpret_cast<uintptr_t>(a.out) | reinterpret_cast<uintptr_t>(a.D) |
                    reinterpret_cast<uintptr_t>(a.y) | reinterpret_cast<uintptr_t>(a.s);
  const bool aligned = bits % 16 == 0 && a.pixels % kWide == 0;
  with_pointwise<T>(a.name, [&](auto type) {
    using Functor = typename decltype(type)::type;
    aligned ? run(PackThread<T, kWide, Functor>{a}) : run(PackThread<T, Functor::kGroup, Functor>{a});
  });
}

}  // namespace LMAPS_NAMESPACE
