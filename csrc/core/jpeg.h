// The parts of JPEG as a map of one minimum coded unit (MCU): colour transform, 8x8 DCT, K steps of a coefficient.
// Pixels are in [-1, 1]; planes are centred luma and chroma in units of 8-bit levels.
#pragma once
#include "rounding.h"
#include "rows.h"

namespace LMAPS_NAMESPACE {

// One coefficient in units of its quantization step, v = u / q: K steps of
// u <- u - lr (lam (u - u_D) + c (q round(u / q) - u_y)), that is v <- a v + b - e round(v).
template <typename T>
struct QuantizerStep {
  T a, e, lam_lr, c_lr;

  LMAPS_FN explicit QuantizerStep(const Weights& w)
      : a(T(1 - w.lr * w.lam)), e(T(w.lr * w.c)), lam_lr(T(w.lr * w.lam)), c_lr(T(w.lr * w.c)) {}
  LMAPS_FN T offset(T v_D, T v_y) const { return lam_lr * v_D + c_lr * v_y; }
  LMAPS_FN T operator()(T v, T b) const { return a * v + (b - e * round_even(v)); }
};

// The orthonormal DCT-II of length 8: row[k][j] = cos((2 j + 1) k pi / 16) / 2, row 0 divided by sqrt(2).
template <typename T>
struct Dct8 {
  T row[64], column[64];  // the matrix and its transpose

  Dct8() {
    const double cosine[9] = {1.0,
                              0.98078528040323043,
                              0.92387953251128674,
                              0.83146961230254524,
                              0.70710678118654752,
                              0.55557023301960218,
                              0.38268343236508977,
                              0.19509032201612825,
                              0.0};
    for (int k = 0; k < 8; ++k)
      for (int j = 0; j < 8; ++j) {
        int angle = (2 * j + 1) * k % 32;  // in units of pi / 16
        if (angle > 16) angle = 32 - angle;
        const double value = angle <= 8 ? cosine[angle] : -cosine[16 - angle];
        row[8 * k + j] = column[8 * j + k] = T(0.5 * (k == 0 ? cosine[4] : value));
      }
  }

  LMAPS_FN void forward(T* block) const { transform(row, block, column); }
  LMAPS_FN void inverse(T* block) const { transform(column, block, row); }

  // One row or one column of a block. Even rows of the matrix are symmetric and odd ones antisymmetric, which halves
  // the products.
  LMAPS_FN void forward_line(T (&v)[8]) const {
    T out[8];
    for (int k = 0; k < 8; ++k) {
      out[k] = T(0);
      for (int j = 0; j < 4; ++j) out[k] += row[8 * k + j] * (k % 2 ? v[j] - v[7 - j] : v[j] + v[7 - j]);
    }
    for (int k = 0; k < 8; ++k) v[k] = out[k];
  }
  LMAPS_FN void inverse_line(T (&v)[8]) const {
    T even[4], odd[4];
    for (int j = 0; j < 4; ++j) {
      even[j] = odd[j] = T(0);
      for (int k = 0; k < 8; k += 2) {
        even[j] += row[8 * k + j] * v[k];
        odd[j] += row[8 * k + 8 + j] * v[k + 1];
      }
    }
    for (int j = 0; j < 4; ++j) v[j] = even[j] + odd[j], v[7 - j] = even[j] - odd[j];
  }

 private:
  LMAPS_FN static void multiply(const T* a, const T* b, T* out) {
    for (int i = 0; i < 8; ++i) {
      T sum[8] = {};
      for (int k = 0; k < 8; ++k)
        for (int j = 0; j < 8; ++j) sum[j] += a[8 * i + k] * b[8 * k + j];
      for (int j = 0; j < 8; ++j) out[8 * i + j] = sum[j];
    }
  }
  LMAPS_FN static void transform(const T* left, T* block, const T* right) {
    T half[64];
    multiply(left, block, half);
    multiply(half, right, block);
  }
};

// The colour transform of N pixels.
template <typename T>
struct Colour {
  int channels;
  T forward[3][3], inverse[3][3];

  explicit Colour(const JpegCodec& codec) : channels(codec.channels) {
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 3; ++j) forward[i][j] = T(codec.forward[i][j]), inverse[i][j] = T(codec.inverse[i][j]);
  }

  template <int N>
  LMAPS_FN void mix(const T (&matrix)[3][3], const T (&in)[3][N], T (&out)[3][N]) const {
    if (channels == 1) {
      for (int j = 0; j < N; ++j) out[0][j] = in[0][j];
      return;
    }
    for (int c = 0; c < 3; ++c)
      for (int j = 0; j < N; ++j)
        out[c][j] = matrix[c][0] * in[0][j] + matrix[c][1] * in[1][j] + matrix[c][2] * in[2][j];
  }
};

// The pixels and the blocks of an MCU: its blocks of luma, in rows, and then two of chroma.
struct McuShape {
  int height, width, luma_blocks, blocks;

  explicit McuShape(const JpegCodec& codec)
      : height(8 * codec.sub_h),
        width(8 * codec.sub_w),
        luma_blocks(codec.sub_h * codec.sub_w),
        blocks(luma_blocks + (codec.channels == 3 ? 2 : 0)) {}

  // The quantization steps of a block, in an image's tables of luma and chroma.
  LMAPS_FN const float* quantizer(const float* tables, int block) const {
    return tables + (block < luma_blocks ? 0 : kQuantizers / 2);
  }
};

// All K steps of N coefficients, whose quantization steps are q: D becomes its update. In a whole MCU coefficients are
// independent of each other.
template <int N, typename T>
LMAPS_FN void take_steps(const QuantizerStep<T>& step, int steps, const float* q, T (&D)[N], const T (&y)[N]) {
  T v[N], offset[N];
  for (int j = 0; j < N; ++j) {
    const T unit = T(1) / T(q[j]);
    v[j] = D[j] * unit;
    offset[j] = step.offset(v[j], y[j] * unit);
  }
  for (int k = 0; k < steps; ++k)
    for (int j = 0; j < N; ++j) v[j] = step(v[j], offset[j]);
  for (int j = 0; j < N; ++j) D[j] = v[j] * T(q[j]) - D[j];
}

// A(x) in coefficients, less the offset of luma: each to the nearest multiple of its quantization step.
template <int N, typename T>
LMAPS_FN void quantize(const float* q, T (&x)[N]) {
  for (int j = 0; j < N; ++j) x[j] = round_even(x[j] / T(q[j])) * T(q[j]);
}

}  // namespace LMAPS_NAMESPACE
