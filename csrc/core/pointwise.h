// Local MAP where A^T A is diagonal: over pixels (inpainting, denoising) or over an eigenbasis (blur).
// Each functor maps N entries: D of the denoiser, y of the measurement, s of the operator.
#pragma once
#include "weights.h"

namespace LMAPS_NAMESPACE {

// A(x) = m x: D + phi(m^2) c m (y - m D).
template <typename T>
struct DiagonalMap {
  Phi<T> phi;

  template <int N>
  LMAPS_FN void operator()(const T (&D)[N], const T (&y)[N], const T (&m)[N], T (&out)[N]) const {
    T s[N], gain[N];
    for (int j = 0; j < N; ++j) s[j] = m[j] * m[j];
    phi(s, gain);
    for (int j = 0; j < N; ++j) out[j] = D[j] + gain[j] * phi.c * m[j] * (y[j] - m[j] * D[j]);
  }
};

// In an eigenbasis of A^T A with eigenvalue s, b = coefficient of A^T y: the update phi(s) c (b - s D), without D.
template <typename T>
struct SpectralUpdate {
  Phi<T> phi;

  template <int N>
  LMAPS_FN void operator()(const T (&D)[N], const T (&b)[N], const T (&s)[N], T (&out)[N]) const {
    T gain[N];
    phi(s, gain);
    for (int j = 0; j < N; ++j) out[j] = gain[j] * phi.c * (b[j] - s[j] * D[j]);
  }
};

}  // namespace LMAPS_NAMESPACE
