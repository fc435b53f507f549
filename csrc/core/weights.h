// phi, the filter that stands for the K gradient steps of a local MAP.
#pragma once
#include "rows.h"

namespace LMAPS_NAMESPACE {

template <typename T>
struct Phi {
  T lam, c, lr;
  int steps, top;  // top: the highest set bit of steps

  LMAPS_FN explicit Phi(const Weights& w) : lam(T(w.lam)), c(T(w.c)), lr(T(w.lr)), steps(w.steps), top(1) {
    while (top <= steps / 2) top *= 2;
  }

  // out = lr * sum_{j<K} (1 - z)^j with z = lr (lam + c s): the sum by doubling, S_2k = S_k (2 - z S_k) and
  // S_{k+1} = 1 + (1 - z) S_k. No division, so z = 0 gives K; no cancellation, so small z keeps its digits.
  // N entries at once, so that the loop over the bits of K stands outside the one that is vectorised.
  template <int N>
  LMAPS_FN void operator()(const T (&s)[N], T (&out)[N]) const {
    T z[N];
    for (int j = 0; j < N; ++j) z[j] = lr * (lam + c * s[j]), out[j] = T(1);
    for (int bit = top / 2; bit > 0; bit /= 2) {
      for (int j = 0; j < N; ++j) out[j] *= T(2) - z[j] * out[j];
      if (steps & bit)
        for (int j = 0; j < N; ++j) out[j] = T(1) + (T(1) - z[j]) * out[j];
    }
    for (int j = 0; j < N; ++j) out[j] *= lr;
  }
};

}  // namespace LMAPS_NAMESPACE
