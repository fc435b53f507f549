// The rows of the tables that a kernel is called with. What stands in which column is said here and nowhere else.
#pragma once
#include "arguments.h"
#include "config.h"

namespace LMAPS_NAMESPACE {

// The row of an image in a table that has one for each image, or one for all.
template <typename T>
LMAPS_FN const T* row_of(const T* table, int64_t rows, int64_t columns, int64_t image) {
  return table + (rows == 1 ? 0 : image) * columns;
}

// min_x lam/2 |x - D|^2 + c/2 |A(x) - y|^2 by K gradient steps of size lr from x = D, where c = (1 - lam) k2.
struct Weights {
  static constexpr int kColumns = 4;
  double lam, c, lr;
  int steps;  // K

  Weights() = default;
  LMAPS_FN explicit Weights(const double* row) : lam(row[0]), c(row[1]), lr(row[2]), steps(int(row[3])) {}
};

// The numbers of a fused step: the weights of its local MAP, and what surrounds it.
struct Levels : Weights {
  static constexpr int kColumns = 10;
  float skip, out, keep, noise, scale;
  uint32_t draw;

  Levels() = default;
  LMAPS_FN explicit Levels(const double* row)
      : Weights(row),
        skip(float(row[4])),
        out(float(row[5])),
        keep(float(row[6])),
        noise(float(row[7])),
        scale(float(row[8])),
        draw(uint32_t(int64_t(row[9]))) {}
};

// Which row of s belongs to a row of D, or to a channel of an image.
LMAPS_FN int64_t s_row(int64_t s_images, int64_t s_rows, int64_t image, int64_t row) {
  return (s_images == 1 ? 0 : image) * s_rows + (s_rows == 1 ? 0 : row);
}

// The quantization steps of JPEG: 64 of luma, then as many of chroma, for the arguments of jpeg_map or of a step.
constexpr int kQuantizers = 2 * 64;
template <typename Arguments>
LMAPS_FN const float* tables_of(const Arguments& a, int64_t image) {
  return row_of(a.tables, a.table_rows, kQuantizers, image);
}

LMAPS_FN uint32_t draw_of(const NormalArguments& a, int64_t image) {
  return uint32_t(*row_of(a.draws, a.draw_rows, 1, image));
}
LMAPS_FN double sigma_of(const NormalArguments& a, int64_t image) { return *row_of(a.sigmas, a.sigma_rows, 1, image); }

LMAPS_FN Weights numbers_of(const PointwiseArguments& a, int64_t image) {
  return Weights(row_of(a.weights, a.weight_rows, Weights::kColumns, image));
}
LMAPS_FN Weights numbers_of(const JpegArguments& a, int64_t image) {
  return Weights(row_of(a.weights, a.weight_rows, Weights::kColumns, image));
}
LMAPS_FN Levels numbers_of(const StepArguments& a, int64_t image) {
  return Levels(row_of(a.levels, a.level_rows, Levels::kColumns, image));
}

}  // namespace LMAPS_NAMESPACE
