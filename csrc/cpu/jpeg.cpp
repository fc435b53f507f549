// The loop around core/jpeg.h: threads over rows of MCUs, SIMD over the 64 coefficients of a block.
#include "../core/jpeg.h"

#include "loops.h"

namespace LMAPS_NAMESPACE {
namespace {

template <typename T>
struct Place {
  T* out;
  const T *D, *y;
  int64_t row, plane;
  int rows, columns;  // pixels of this MCU that lie in the image
};

// An MCU that the border of the image cuts: what its missing pixels repeat changes with x, which couples the
// coefficients, so the K steps are taken in pixels.
template <typename T>
void cut_mcu(const Place<T>& p, Mcu<T>& mcu, const Weights& w) {
  T x[3 * 16 * 16];
  const auto local = [](int c, int i, int j) { return (c * 16 + i) * 16 + j; };
  const auto image = [&](int c, int i, int j) { return c * p.plane + i * p.row + j; };
  const auto each = [&](auto&& f) {
    for (int c = 0; c < mcu.jpeg.channels; ++c)
      for (int i = 0; i < p.rows; ++i)
        for (int j = 0; j < p.columns; ++j) f(x[local(c, i, j)], image(c, i, j));
  };
  const T lr = T(w.lr), lam = T(w.lam), c_data = T(w.c), offset = T(0.5 / 127.5);
  each([&](T& value, int64_t at) { value = p.D[at]; });
  for (int k = 0; k < w.steps; ++k) {
    mcu.read(x, 16, 256, p.rows, p.columns);
    quantize(mcu);
    mcu.write(p.rows, p.columns, [&](int c, int i, int j, T decoded) {
      T& value = x[local(c, i, j)];
      const int64_t at = image(c, i, j);
      value -= lr * (lam * (value - p.D[at]) + c_data * (decoded + offset - p.y[at]));
    });
  }
  each([&](T& value, int64_t at) { p.out[at] = value; });
}

template <typename T>
void map(const JpegArguments& a, int threads) {
  const JpegTables& jpeg = a.tables;
  const Dct8<T> dct;
  const QuantizerStep<T> step(a.weights);
  const int mcu_h = 8 * jpeg.sub_h, mcu_w = 8 * jpeg.sub_w;
  const int64_t mcu_rows = (a.height + mcu_h - 1) / mcu_h, plane = a.height * a.width;
#pragma omp parallel for num_threads(threads) schedule(dynamic)
  for (int64_t task = 0; task < a.batch * mcu_rows; ++task) {
    const int64_t top = task % mcu_rows * mcu_h;
    Mcu<T> D(jpeg, dct), y(jpeg, dct);
    for (int64_t left = 0; left < a.width; left += mcu_w) {
      const int64_t at = task / mcu_rows * jpeg.channels * plane + top * a.width + left;
      const int64_t rows = a.height - top, columns = a.width - left;
      const Place<T> p{static_cast<T*>(a.out) + at,
                       static_cast<const T*>(a.D) + at,
                       static_cast<const T*>(a.y) + at,
                       a.width,
                       plane,
                       rows < mcu_h ? int(rows) : mcu_h,
                       columns < mcu_w ? int(columns) : mcu_w};
      if (p.rows < mcu_h || p.columns < mcu_w) {
        cut_mcu(p, D, a.weights);
        continue;
      }
      D.read(p.D, p.row, p.plane, mcu_h, mcu_w);
      y.read(p.y, p.row, p.plane, mcu_h, mcu_w);
      whole_mcu(D, y, step, a.weights.steps);
      D.write(mcu_h, mcu_w, [&](int c, int i, int j, T update) {
        const int64_t pixel = c * p.plane + i * p.row + j;
        p.out[pixel] = p.D[pixel] + update;
      });
    }
  }
}

}  // namespace

void jpeg_map(const JpegArguments& a, int threads) { a.is_double ? map<double>(a, threads) : map<float>(a, threads); }

}  // namespace LMAPS_NAMESPACE
