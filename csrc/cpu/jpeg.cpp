// The loops around core/jpeg.h: threads over rows of MCUs, SIMD over the 64 coefficients of a block.
#include <vector>

#include "loops.h"
#include "mcu.h"
#include "surroundings.h"

namespace LMAPS_NAMESPACE {
namespace {

// The corner of an MCU in images whose rows lie `row` apart and whose channels lie `plane` (of y: `y_plane`) apart.
template <typename T>
struct Place {
  T* out;
  const T *D, *y;
  int64_t row, plane, y_plane;
  int rows, columns;  // pixels from here to the border of the image
};

// An MCU that the border of the image cuts: what its missing pixels repeat changes with x, which couples the
// coefficients, so the K steps are taken in pixels.
template <typename T>
void cut_mcu(const Place<T>& p, Mcu<T>& mcu, const Weights& w) {
  T x[3 * 16 * 16];
  const auto local = [](int c, int i, int j) { return (c * 16 + i) * 16 + j; };
  const auto image = [&](int c, int i, int j) { return c * p.plane + i * p.row + j; };
  const int rows = p.rows < mcu.height ? p.rows : mcu.height, columns = p.columns < mcu.width ? p.columns : mcu.width;
  const auto each = [&](auto&& f) {
    for (int c = 0; c < mcu.jpeg.channels; ++c)
      for (int i = 0; i < rows; ++i)
        for (int j = 0; j < columns; ++j) f(x[local(c, i, j)], image(c, i, j));
  };
  const T lr = T(w.lr), lam = T(w.lam), c_data = T(w.c), offset = T(0.5 / 127.5);
  each([&](T& value, int64_t at) { value = p.D[at]; });
  for (int k = 0; k < w.steps; ++k) {
    mcu.read(x, 16, 256, rows, columns);
    for (int b = 0; b < mcu.blocks; ++b) quantize(mcu.quantizer(b), mcu.block[b]);
    mcu.write(rows, columns, [&](int c, int i, int j, T decoded) {
      T& value = x[local(c, i, j)];
      const T y = p.y[c * p.y_plane + i * p.row + j];
      value -= lr * (lam * (value - p.D[image(c, i, j)]) + c_data * (decoded + offset - y));
    });
  }
  each([&](T& value, int64_t at) { p.out[at] = value; });
}

// What all MCUs share.
template <typename T>
struct Jpeg {
  const JpegCodec& codec;
  Dct8<T> dct;
  Colour<T> colour;
  McuShape mcu;

  explicit Jpeg(const JpegCodec& c) : codec(c), colour(c), mcu(c) {}

  // A row of MCUs of an image with these weights and tables, whose first has its corner at p. out may be D.
  void row(Place<T> p, const Weights& weights, const float* tables) const {
    Mcu<T> D(codec, tables, dct, colour), y(codec, tables, dct, colour);
    const QuantizerStep<T> step(weights);
    for (; p.columns > 0; p.columns -= mcu.width, p.out += mcu.width, p.D += mcu.width, p.y += mcu.width) {
      if (p.rows < mcu.height || p.columns < mcu.width) {
        cut_mcu(p, D, weights);
        continue;
      }
      D.read(p.D, p.row, p.plane, mcu.height, mcu.width);
      y.read(p.y, p.row, p.y_plane, mcu.height, mcu.width);
      for (int b = 0; b < mcu.blocks; ++b) take_steps(step, weights.steps, D.quantizer(b), D.block[b], y.block[b]);
      D.write(mcu.height, mcu.width, [&](int c, int i, int j, T update) {
        const int64_t pixel = c * p.plane + i * p.row + j;
        p.out[pixel] = p.D[pixel] + update;
      });
    }
  }
};

template <typename T>
void map(const JpegArguments& a, int threads) {
  const Jpeg<T> jpeg(a.codec);
  const int64_t mcu_rows = (a.height + jpeg.mcu.height - 1) / jpeg.mcu.height, plane = a.height * a.width;
#pragma omp parallel for num_threads(threads) schedule(dynamic)
  for (int64_t task = 0; task < a.batch * mcu_rows; ++task) {
    const int64_t n = task / mcu_rows, top = task % mcu_rows * jpeg.mcu.height;
    const int64_t at = n * a.codec.channels * plane + top * a.width;
    jpeg.row({static_cast<T*>(a.out) + at, static_cast<const T*>(a.D) + at, static_cast<const T*>(a.y) + at, a.width,
              plane, plane, int(a.height - top), int(a.width)},
             numbers_of(a, n), tables_of(a, n));
  }
}

}  // namespace

void jpeg_map(const JpegArguments& a, int threads) { a.is_double ? map<double>(a, threads) : map<float>(a, threads); }

// D and x0 of a row of MCUs stay in the cache, in one scratch of each thread.
void jpeg_step(const StepArguments& a, int threads) {
  const Jpeg<float> jpeg(a.codec);
  const int64_t mcu_rows = (a.height + jpeg.mcu.height - 1) / jpeg.mcu.height, plane = a.height * a.width;
#pragma omp parallel num_threads(threads)
  {
    std::vector<float> scratch(a.channels * jpeg.mcu.height * a.width);
#pragma omp for schedule(dynamic)
    for (int64_t task = 0; task < a.batch * mcu_rows; ++task) {
      const int64_t n = task / mcu_rows, top = task % mcu_rows * jpeg.mcu.height;
      const int64_t rows = a.height - top < jpeg.mcu.height ? a.height - top : jpeg.mcu.height;
      const Levels levels = numbers_of(a, n);
      const auto each = [&](auto&& f) {
        for (int64_t c = 0; c < a.channels; ++c) {
          const int64_t begin = c * plane + top * a.width;
          float* lines = scratch.data() + c * rows * a.width;
          each_run(n, begin, begin + rows * a.width, [&](const Run& run) { f(run, lines + (run.begin - begin)); });
        }
      };
      float block[kNormals] = {};
      each([&](const Run& run, float* lines) {
        before(a, levels, run, block);
        copy(block, lines, run.count);
      });
      jpeg.row({scratch.data(), scratch.data(), a.y + n * a.channels * plane + top * a.width, a.width, rows * a.width,
                plane, int(rows), int(a.width)},
               levels, tables_of(a, n));
      each([&](const Run& run, const float* lines) {
        copy(lines, block, run.count);
        after(a, levels, run, block);
      });
    }
  }
}

}  // namespace LMAPS_NAMESPACE
