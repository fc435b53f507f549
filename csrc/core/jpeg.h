// JPEG as a map of one minimum coded unit (MCU): colour transform, chroma averaging, 8x8 DCT, quantizer, and back.
#pragma once
#include "rounding.h"
#include "weights.h"

// One JPEG operator. Pixels are in [-1, 1]; planes are centred luma and chroma in units of 8-bit levels.
struct JpegTables {
  int channels;                         // 1 (grey: luma only) or 3
  int sub_h, sub_w;                     // rows and columns of pixels per chroma sample: 1 or 2
  bool average;                         // chroma = mean of its pixels (libjpeg); otherwise the first of them
  float table[2][64];                   // quantization steps of luma and chroma, natural (row-major) order
  double forward[3][3], inverse[3][3];  // RGB -> YCbCr and its exact inverse
};

namespace LMAPS_NAMESPACE {

// One coefficient in units of its quantization step, v = u / q: K steps of
// u <- u - lr (lam (u - u_D) + c (q round(u / q) - u_y)), that is v <- a v + b - e round(v).
template <typename T>
struct QuantizerStep {
  T a, e, lam_lr, c_lr;

  explicit QuantizerStep(const Weights& w)
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

// The blocks of one MCU (up to four of luma, then two of chroma) and the way between them and pixels.
template <typename T>
struct Mcu {
  const JpegTables& jpeg;
  const Dct8<T>& dct;
  int height, width, luma_blocks, blocks;
  T block[6][64];

  Mcu(const JpegTables& tables, const Dct8<T>& transform)
      : jpeg(tables),
        dct(transform),
        height(8 * tables.sub_h),
        width(8 * tables.sub_w),
        luma_blocks(tables.sub_h * tables.sub_w),
        blocks(luma_blocks + (tables.channels == 3 ? 2 : 0)) {}

  LMAPS_FN int table(int b) const { return b < luma_blocks ? 0 : 1; }

  // Coefficients of the pixels at x (rows and channels `row` and `plane` apart), of which `rows` x `columns` exist;
  // the rest repeats the last row and column.
  void read(const T* x, int64_t row, int64_t plane, int rows, int columns) {
    T sum[2][64] = {};
    for (int i = 0; i < height; ++i) {
      const T* line = x + (i < rows ? i : rows - 1) * row;
      T pixel[3][16];
      for (int c = 0; c < jpeg.channels; ++c)
        for (int j = 0; j < width; ++j) pixel[c][j] = T(127.5) * line[c * plane + (j < columns ? j : columns - 1)];
      T ycc[3][16];
      mix(jpeg.forward, pixel, ycc);
      for (int j = 0; j < width; ++j) block[(i / 8) * jpeg.sub_w + j / 8][8 * (i % 8) + j % 8] = ycc[0][j] - T(0.5);
      if (jpeg.channels == 1 || !(jpeg.average || i % jpeg.sub_h == 0)) continue;
      for (int c = 0; c < 2; ++c)
        for (int j = 0; j < width; j += jpeg.average ? 1 : jpeg.sub_w)
          sum[c][8 * (i / jpeg.sub_h) + j / jpeg.sub_w] += ycc[1 + c][j];
    }
    const T share = jpeg.average ? T(1) / T(luma_blocks) : T(1);
    for (int c = 0; c < blocks - luma_blocks; ++c)
      for (int j = 0; j < 64; ++j) block[luma_blocks + c][j] = share * sum[c][j];
    for (int b = 0; b < blocks; ++b) dct.forward(block[b]);
  }

  // Pixels of the coefficients as a difference (no offset), chroma replicated; destroys the coefficients.
  // write(c, i, j, value) takes each existing pixel.
  template <typename Write>
  LMAPS_FN void write(int rows, int columns, Write&& write) {
    for (int b = 0; b < blocks; ++b) dct.inverse(block[b]);
    for (int i = 0; i < rows; ++i) {
      T ycc[3][16], pixel[3][16];
      for (int j = 0; j < width; ++j) ycc[0][j] = block[(i / 8) * jpeg.sub_w + j / 8][8 * (i % 8) + j % 8];
      for (int c = 0; c < blocks - luma_blocks; ++c)
        for (int j = 0; j < width; ++j) ycc[1 + c][j] = block[luma_blocks + c][8 * (i / jpeg.sub_h) + j / jpeg.sub_w];
      mix(jpeg.inverse, ycc, pixel);
      for (int c = 0; c < jpeg.channels; ++c)
        for (int j = 0; j < columns; ++j) write(c, i, j, pixel[c][j] * T(1 / 127.5));
    }
  }

 private:
  LMAPS_FN void mix(const double (&matrix)[3][3], const T (&in)[3][16], T (&out)[3][16]) const {
    if (jpeg.channels == 1) {
      for (int j = 0; j < 16; ++j) out[0][j] = in[0][j];
      return;
    }
    for (int c = 0; c < 3; ++c)
      for (int j = 0; j < 16; ++j)
        out[c][j] = T(matrix[c][0]) * in[0][j] + T(matrix[c][1]) * in[1][j] + T(matrix[c][2]) * in[2][j];
  }
};

// All K steps of a whole MCU: its coefficients are independent of each other.
template <typename T>
LMAPS_FN void whole_mcu(Mcu<T>& D, const Mcu<T>& y, const QuantizerStep<T>& step, int steps) {
  for (int b = 0; b < D.blocks; ++b) {
    const float* q = D.jpeg.table[D.table(b)];
    T v[64], start[64], offset[64];
    for (int j = 0; j < 64; ++j) {
      const T unit = T(1) / T(q[j]);
      v[j] = start[j] = D.block[b][j] * unit;
      offset[j] = step.offset(v[j], y.block[b][j] * unit);
    }
    for (int k = 0; k < steps; ++k)
      for (int j = 0; j < 64; ++j) v[j] = step(v[j], offset[j]);
    for (int j = 0; j < 64; ++j) D.block[b][j] = (v[j] - start[j]) * T(q[j]);
  }
}

// A(x) of an MCU, less the offset of luma: each coefficient to the nearest multiple of its step.
template <typename T>
LMAPS_FN void quantize(Mcu<T>& x) {
  for (int b = 0; b < x.blocks; ++b) {
    const float* q = x.jpeg.table[x.table(b)];
    for (int j = 0; j < 64; ++j) x.block[b][j] = round_even(x.block[b][j] / T(q[j])) * T(q[j]);
  }
}

}  // namespace LMAPS_NAMESPACE
