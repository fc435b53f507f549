// The fused step around a local MAP of each pixel: all that lies between two network calls.
#pragma once
#include "arguments.h"
#include "normal.h"
#include "number.h"
#include "pointwise.h"

namespace LMAPS_NAMESPACE {

// The local MAP was made elsewhere and stands in y.
struct Given {
  static constexpr int kGroup = 1;

  template <int N>
  LMAPS_FN void operator()(const float (&)[N], const float (&y)[N], float (&out)[N]) const {
    for (int j = 0; j < N; ++j) out[j] = y[j];
  }
};

// run(functor), for the name that a step has.
template <typename Run>
void with_functor(const StepArguments& a, Run&& run) {
  switch (a.name) {
    case Pointwise::diagonal_map: return run(DiagonalMap<float>{SpectralUpdate<float>{Phi<float>(a.weights)}});
    case Pointwise::clip_map: return run(ClipMap<float>(a.weights, a.parameters));
    case Pointwise::quantization_map: return run(QuantizationMap<float>(a.weights, a.parameters));
    case Pointwise::given: return run(Given{});
    default: return;  // jpeg_map has a loop of its own; a step takes no other
  }
}

// What the network made of one pixel, and the next network input of it.
LMAPS_FN float denoised(const Between& b, float x, float F) { return b.skip * x + b.out * F; }
LMAPS_FN float next(const Between& b, float x, float x0, float eps) { return x0 + b.keep * (x - x0) + b.noise * eps; }

}  // namespace LMAPS_NAMESPACE
