// Local MAP where A^T A is diagonal, over pixels (inpainting) or over an eigenbasis (blur), and where A is a scalar
// function of each pixel (HDR, quantization). Each functor maps N entries, a multiple of its kGroup.
#pragma once
#include <type_traits>

#include "rounding.h"
#include "weights.h"

namespace LMAPS_NAMESPACE {

// Whether a functor takes eigenvalues s, or D and y alone.
template <typename Functor, typename T>
constexpr bool kTakesS = std::is_invocable_v<Functor, T (&)[2], T (&)[2], T (&)[2], T (&)[2]>;

// An eigenvalue s of A^T A and the coefficient b of A^T y: the update phi(s) c (b - s D), to be added to D.
template <typename T>
struct SpectralUpdate {
  static constexpr int kGroup = 1;
  Phi<T> phi;

  template <int N>
  LMAPS_FN void operator()(const T (&D)[N], const T (&b)[N], const T (&s)[N], T (&out)[N]) const {
    T gain[N];
    phi(s, gain);
    for (int j = 0; j < N; ++j) out[j] = gain[j] * phi.c * (b[j] - s[j] * D[j]);
  }
};

// The same where pixels are the eigenbasis: the update is added to D at once.
template <typename T>
struct DiagonalMap {
  static constexpr int kGroup = 1;
  SpectralUpdate<T> update;

  template <int N>
  LMAPS_FN void operator()(const T (&D)[N], const T (&b)[N], const T (&s)[N], T (&out)[N]) const {
    update(D, b, s, out);
    for (int j = 0; j < N; ++j) out[j] += D[j];
  }
};

// A(x) = clip(gain x, -1, 1) with a surrogate slope inside and outside the clip: K steps
// x <- x - lr (lam (x - D) + c slope (A(x) - y)), in units in which the clip is at 1.
template <typename T>
struct ClipMap {
  static constexpr int kGroup = 1;
  int steps;
  T gain, unit, keep, lam_lr, inside, outside;

  ClipMap(const Weights& w, const double* parameters)  // gain, slope inside, slope outside
      : steps(w.steps),
        gain(T(parameters[0])),
        unit(T(1 / parameters[0])),
        keep(T(1 - w.lr * w.lam)),
        lam_lr(T(w.lr * w.lam)),
        inside(T(w.lr * w.c * parameters[0] * parameters[1])),
        outside(T(w.lr * w.c * parameters[0] * parameters[2])) {}

  template <int N>
  LMAPS_FN void operator()(const T (&D)[N], const T (&y)[N], T (&out)[N]) const {
    T v[N], prior[N];
    for (int j = 0; j < N; ++j) v[j] = gain * D[j], prior[j] = lam_lr * v[j];
    if (inside == outside) {
      for (int j = 0; j < N; ++j) prior[j] += inside * y[j];
      for (int k = 0; k < steps; ++k)
        for (int j = 0; j < N; ++j) v[j] = keep * v[j] + (prior[j] - inside * clip(v[j]));
    } else {
      for (int k = 0; k < steps; ++k)
        for (int j = 0; j < N; ++j) {
          const T clipped = clip(v[j]), slope = clipped == v[j] ? inside : outside;
          v[j] = keep * v[j] + (prior[j] - slope * (clipped - y[j]));
        }
    }
    for (int j = 0; j < N; ++j) out[j] = unit * v[j];
  }

 private:
  LMAPS_FN static T clip(T v) {
    const T low = v < T(-1) ? T(-1) : v;
    return low > T(1) ? T(1) : low;
  }
};

// A(x) = nearest of the levels -1, -1 + 2 / n, ..., 1, not limited to them, with the identity as surrogate Jacobian.
// In units of a step, v = n (x + 1) / 2 + 1/2, the K steps are v <- keep v + b - e floor(v).
template <typename T>
struct QuantizationMap {
  static constexpr int kGroup = 1;
  int steps;
  T half, keep, lam_lr, c_lr;

  QuantizationMap(const Weights& w, const double* parameters)  // n, the number of steps between -1 and 1
      : steps(w.steps),
        half(T(parameters[0] / 2)),
        keep(T(1 - w.lr * w.lam)),
        lam_lr(T(w.lr * w.lam)),
        c_lr(T(w.lr * w.c)) {}

  template <int N>
  LMAPS_FN void operator()(const T (&D)[N], const T (&y)[N], T (&out)[N]) const {
    T v[N], b[N];
    for (int j = 0; j < N; ++j) {
      v[j] = half * D[j] + (half + T(0.5));
      b[j] = lam_lr * v[j] + c_lr * (half * y[j] + half);
    }
    for (int k = 0; k < steps; ++k)
      for (int j = 0; j < N; ++j) v[j] = keep * v[j] + (b[j] - c_lr * floor_of(v[j]));
    for (int j = 0; j < N; ++j) out[j] = (v[j] - (half + T(0.5))) / half;
  }
};

// Complex numbers X = (re, im), (re, im), ... to those of the same phase and the magnitude y, which stands in both
// places of a pair; 0 stays 0.
template <typename T>
struct PhaseProjection {
  static constexpr int kGroup = 2;
  static constexpr T kTiny = T(1e-37);

  template <int N>
  LMAPS_FN void operator()(const T (&X)[N], const T (&y)[N], T (&out)[N]) const {
    for (int j = 0; j < N; j += 2) {
      const T square = X[j] * X[j] + X[j + 1] * X[j + 1];
      const T scale = y[j] / std::sqrt(square > kTiny ? square : kTiny);
      out[j] = scale * X[j];
      out[j + 1] = scale * X[j + 1];
    }
  }
};

}  // namespace LMAPS_NAMESPACE
