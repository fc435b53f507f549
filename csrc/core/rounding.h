// Rounding in instructions that every target vectorises.
#pragma once
#include <cmath>

#include "config.h"

namespace LMAPS_NAMESPACE {

// Round half to even. On a GPU two sums are never slower than the conversion unit.
LMAPS_FN float round_even(float v) {
#if defined(__SSE4_1__) && !defined(__CUDACC__)
  return std::rint(v);
#else
  return (v + 12582912.0f) - 12582912.0f;  // |v| < 2^22, as quantizer indices are
#endif
}
LMAPS_FN double round_even(double v) {
#if defined(__SSE4_1__) && !defined(__CUDACC__)
  return std::rint(v);
#else
  return (v + 6755399441055744.0) - 6755399441055744.0;
#endif
}

template <typename T>
LMAPS_FN T floor_of(T v) {
#if defined(__CUDACC__) || defined(__SSE4_1__)
  return std::floor(v);
#else
  const T nearest = round_even(v);
  return nearest > v ? nearest - T(1) : nearest;
#endif
}

}  // namespace LMAPS_NAMESPACE
