// Local MAP where A^T A is diagonal, over pixels (inpainting) or over an eigenbasis (blur), and where A is a scalar
// function of each pixel (HDR, quantization). Each functor is made of the numbers of one image: of its weights and its
// row of parameters, of its weights, or of nothing. It maps N entries, a multiple of its kGroup, at once.
#pragma once
#include <type_traits>

#include "rounding.h"
#include "weights.h"

namespace LMAPS_NAMESPACE {

// What holds for a functor that says nothing else.
struct PixelMap {
  static constexpr int kGroup = 1;        // how many neighbouring entries belong together
  static constexpr int kParameters = 0;   // numbers in a row of parameters
  static constexpr bool kGivesX0 = true;  // whether a fused step can take its result for the local MAP
};

// Whether a functor takes eigenvalues s, or D and y alone.
template <typename Functor, typename T>
constexpr bool kTakesS = std::is_invocable_v<Functor, T (&)[2], T (&)[2], T (&)[2], T (&)[2]>;

// Whether a functor is made of weights.
template <typename Functor>
constexpr bool kTakesWeights = Functor::kParameters > 0 || std::is_constructible_v<Functor, Weights>;

// The functor of one image, where `a` are PointwiseArguments or StepArguments.
template <typename Functor, typename Arguments>
LMAPS_FN Functor functor_of(const Arguments& a, int64_t image) {
  if constexpr (Functor::kParameters > 0)
    return Functor(numbers_of(a, image), row_of(a.parameters, a.parameter_rows, a.parameter_count, image));
  else if constexpr (kTakesWeights<Functor>)
    return Functor(numbers_of(a, image));
  else
    return Functor{};
}

// An eigenvalue s of A^T A and the coefficient b of A^T y: the update phi(s) c (b - s D), to be added to D.
template <typename T>
struct SpectralUpdate : PixelMap {
  static constexpr bool kGivesX0 = false;
  Phi<T> phi;

  LMAPS_FN explicit SpectralUpdate(const Weights& w) : phi(w) {}

  template <int N>
  LMAPS_FN void operator()(const T (&D)[N], const T (&b)[N], const T (&s)[N], T (&out)[N]) const {
    T gain[N];
    phi(s, gain);
    for (int j = 0; j < N; ++j) out[j] = gain[j] * phi.c * (b[j] - s[j] * D[j]);
  }
};

// The same where pixels are the eigenbasis: the update is added to D at once.
template <typename T>
struct DiagonalMap : PixelMap {
  SpectralUpdate<T> update;

  LMAPS_FN explicit DiagonalMap(const Weights& w) : update(w) {}

  template <int N>
  LMAPS_FN void operator()(const T (&D)[N], const T (&b)[N], const T (&s)[N], T (&out)[N]) const {
    update(D, b, s, out);
    for (int j = 0; j < N; ++j) out[j] += D[j];
  }
};

// A(x) = clip(gain x, -1, 1) with a surrogate slope inside and outside the clip: K steps
// x <- x - lr (lam (x - D) + c slope (A(x) - y)), in units in which the clip is at 1.
template <typename T>
struct ClipMap : PixelMap {
  static constexpr int kParameters = 3;  // gain, slope inside, slope outside
  int steps;
  T gain, unit, keep, lam_lr, inside, outside;

  LMAPS_FN ClipMap(const Weights& w, const double* parameters)
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
struct QuantizationMap : PixelMap {
  static constexpr int kParameters = 1;  // n, the number of steps between -1 and 1
  int steps;
  T half, keep, lam_lr, c_lr;

  LMAPS_FN QuantizationMap(const Weights& w, const double* parameters)
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
struct PhaseProjection : PixelMap {
  static constexpr int kGroup = 2;
  static constexpr bool kGivesX0 = false;
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

// The local MAP was made elsewhere and stands in y.
template <typename T>
struct Given : PixelMap {
  template <int N>
  LMAPS_FN void operator()(const T (&)[N], const T (&y)[N], T (&out)[N]) const {
    for (int j = 0; j < N; ++j) out[j] = y[j];
  }
};

template <typename Functor>
struct Type {
  using type = Functor;
};

// run(Type<functor>{}), for the functor with this name; nothing for jpeg_map, which has loops of its own.
template <typename T, typename Run>
void with_pointwise(Pointwise name, Run&& run) {
  switch (name) {
#define LMAPS_CASE(name, Functor) \
  case Pointwise::name: return run(Type<Functor<T>>{});
    LMAPS_POINTWISE(LMAPS_CASE)
#undef LMAPS_CASE
    case Pointwise::jpeg_map: return;
  }
}

}  // namespace LMAPS_NAMESPACE
