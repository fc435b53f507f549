// The weights of one local MAP problem and phi, the filter that stands for its K gradient steps.
#pragma once
#include "config.h"

// min_x lam/2 |x - D|^2 + c/2 |A(x) - y|^2 by `steps` gradient steps of size lr from x = D, where c = (1 - lam) k2.
struct Weights {
  double lam, c, lr;
  int steps;
};

namespace LMAPS_NAMESPACE {

template <typename T>
struct Phi {
  T lam, c, lr;
  int steps, top;  // top: the highest set bit of steps

  explicit Phi(const Weights &w) : lam(T(w.lam)), c(T(w.c)), lr(T(w.lr)), steps(w.steps), top(1) {
    while (top <= steps / 2) top *= 2;
  }

  // lr * sum_{j<K} (1 - z)^j with z = lr (lam + c s): the sum by doubling, S_2k = S_k (2 - z S_k) and
  // S_{k+1} = 1 + (1 - z) S_k. No division, so z = 0 gives K; no cancellation, so small z keeps its digits.
  LMAPS_FN T operator()(T s) const {
    const T z = lr * (lam + c * s);
    T sum = T(1);
    for (int bit = top / 2; bit > 0; bit /= 2) {
      sum = sum * (T(2) - z * sum);
      if (steps & bit) sum = T(1) + (T(1) - z) * sum;
    }
    return lr * sum;
  }
};

}  // namespace LMAPS_NAMESPACE
