// Launcher of the functors of core/pointwise.h: a grid-stride loop with 16-byte accesses where rows are aligned.
#include "../core/pointwise.h"

#include <cuda_runtime.h>

#include "kernels.h"

namespace LMAPS_NAMESPACE {
namespace {

constexpr int kThreads = 256;

template <typename T, int N>
struct alignas(sizeof(T) * N) Pack {
  T value[N];
};

// N consecutive pixels per thread; the grid's second dimension walks over rows.
template <typename T, int N, typename Functor>
__global__ void __launch_bounds__(kThreads, 4) loop(Functor f, PointwiseArguments a) {
  using P = Pack<T, N>;
  const int64_t packs = a.pixels / N;
  for (int64_t n = blockIdx.y; n < a.rows; n += gridDim.y) {
    const P *D = static_cast<const P*>(a.D) + n * packs, *y = static_cast<const P*>(a.y) + n * packs;
    const P* s = kTakesS<Functor, T> ? static_cast<const P*>(a.s) + n / a.s_repeat % a.s_rows * packs : nullptr;
    P* out = static_cast<P*>(a.out) + n * packs;
    for (int64_t i = blockIdx.x * int64_t(kThreads) + threadIdx.x; i < packs; i += int64_t(gridDim.x) * kThreads) {
      const P d = D[i], m = y[i];
      P result;
      if constexpr (kTakesS<Functor, T>) {
        const P e = s[i];
        f(d.value, m.value, e.value, result.value);
      } else {
        f(d.value, m.value, result.value);
      }
      out[i] = result;
    }
  }
}

template <typename T, int N, typename Functor>
int launch(const Functor& f, const PointwiseArguments& a, void* stream) {
  const int64_t blocks = (a.pixels / N + kThreads - 1) / kThreads;
  const dim3 grid(unsigned(blocks < 65535 ? blocks : 65535), unsigned(a.rows < 65535 ? a.rows : 65535));
  loop<T, N><<<grid, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(f, a);
  return cudaGetLastError();
}

template <typename T, typename Functor>
int launch_widest(const Functor& f, const PointwiseArguments& a, void* stream) {
  constexpr int kWide = 16 / sizeof(T);
  const auto bits = reinterpret_cast<uintptr_t>(a.out) | reinterpret_cast<uintptr_t>(a.D) |
                    reinterpret_cast<uintptr_t>(a.y) | reinterpret_cast<uintptr_t>(a.s);
  const bool aligned = bits % 16 == 0 && a.pixels % kWide == 0;
  return aligned ? launch<T, kWide>(f, a, stream) : launch<T, Functor::kGroup>(f, a, stream);
}

template <typename T>
int select(const PointwiseArguments& a, void* stream) {
  const SpectralUpdate<T> update{Phi<T>(a.weights)};
  switch (a.name) {
    case Pointwise::diagonal_map: return launch_widest<T>(DiagonalMap<T>{update}, a, stream);
    case Pointwise::spectral_update: return launch_widest<T>(update, a, stream);
    case Pointwise::clip_map: return launch_widest<T>(ClipMap<T>(a.weights, a.parameters), a, stream);
    case Pointwise::quantization_map: return launch_widest<T>(QuantizationMap<T>(a.weights, a.parameters), a, stream);
    case Pointwise::phase_projection: return launch_widest<T>(PhaseProjection<T>{}, a, stream);
    default: return cudaErrorInvalidValue;  // those of the fused step
  }
}

}  // namespace
}  // namespace LMAPS_NAMESPACE

int cuda_pointwise(const PointwiseArguments& a, void* stream) {
  return a.is_double ? LMAPS_NAMESPACE::select<double>(a, stream) : LMAPS_NAMESPACE::select<float>(a, stream);
}

const char* cuda_error(int code) { return cudaGetErrorString(static_cast<cudaError_t>(code)); }
