// Local MAP where A^T A is diagonal: over pixels (inpainting, denoising) or over an eigenbasis (blur).
// Each functor maps one entry: D of the denoiser, y of the measurement, s of the operator.
#pragma once
#include "weights.h"

namespace LMAPS_NAMESPACE {

// A(x) = m x: D + phi(m^2) c m (y - m D).
template <typename T>
struct DiagonalMap {
  Phi<T> phi;
  LMAPS_FN T operator()(T D, T y, T m) const { return D + phi(m * m) * phi.c * m * (y - m * D); }
};

// In an eigenbasis of A^T A with eigenvalue s, b = coefficient of A^T y: the update phi(s) c (b - s D), without D.
template <typename T>
struct SpectralUpdate {
  Phi<T> phi;
  LMAPS_FN T operator()(T D, T b, T s) const { return phi(s) * phi.c * (b - s * D); }
};

}  // namespace LMAPS_NAMESPACE
