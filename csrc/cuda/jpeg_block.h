// The JPEG kernel: a block of threads maps several MCUs, eight threads to each 8x8 block of coefficients. Between the
// pixels that are read and those that are written nothing leaves registers and shared memory. `Images` (jpeg_images.h)
// is what D and y are read from and x0 is written to. The MCUs of a block may be of several images.
#pragma once
#include "mcus.h"

namespace LMAPS_NAMESPACE {

template <typename Images>
struct JpegBlock {
  using T = typename Images::Number;
  static constexpr int kThreads = McuGrid::kThreads, kBlocks = McuGrid::kBlocks, kRow = 9;  // 9: no bank conflicts
  static constexpr int kResident = sizeof(T) == 4 ? 8 : 6;  // blocks on a multiprocessor that registers must allow

  struct Shared {
    T plane[kBlocks][8 * kRow];  // samples of a block or coefficients
    T x[kBlocks / 6 * 3 * 256];  // pixels: D, and x of the MCUs that the border cuts
    Corner corner[kBlocks];
    typename Images::Numbers numbers[kBlocks];  // of the image of each MCU
  };

  Images images;
  McuGrid grid;
  bool average;
  Dct8<T> dct;
  Colour<T> colour;

  explicit JpegBlock(const Images& i)
      : images(i), grid(i.a.codec, i.a.batch, i.a.height, i.a.width), average(i.a.codec.average), colour(i.a.codec) {}

  template <typename Block>
  LMAPS_FN void operator()(const Block& block, Shared& shared, int64_t index) const {
    const bool cut = index < grid.cut_blocks;
    block.each_thread([&](int t) {
      if (t >= grid.mcus) return;
      shared.corner[t] = grid.corner(cut, (cut ? index : index - grid.cut_blocks) * grid.mcus + t);
      shared.numbers[t] = numbers_of(images.a, shared.corner[t].n);
    });
    if (cut)
      in_pixels(block, shared);
    else
      in_coefficients(block, shared);
    each_pixel<4>(
        block, shared, [&](const Pixel& p) { return images.read_rest(p, shared.numbers[p.mcu]); },
        [&](const Pixel& p, const typename Images::Rest& rest) {
          images.write(p, shared.numbers[p.mcu], shared.x[p.place], rest);
        });
  }

 private:
  // Coefficients of a whole MCU are independent of each other: each takes its K steps in a register.
  template <typename Block>
  LMAPS_FN void in_coefficients(const Block& block, Shared& shared) const {
    typename Block::template Registers<T, 8> y;
    each_pixel<4>(
        block, shared, [&](const Pixel& p) { return images.read_y(p); },
        [&](const Pixel& p, T v) { shared.x[p.place] = v; });
    analyse(block, shared);
    block.each_thread([&](int t) { read_row(shared, t, y[t]); });
    read_D(block, shared);
    analyse(block, shared);
    block.each_thread([&](int t) {
      const Weights& weights = shared.numbers[mcu(t)];
      T u[8];
      read_row(shared, t, u);
      take_steps(QuantizerStep<T>(weights), weights.steps, quantizer(shared, t), u, y[t]);
      write_row(shared, t, u);
    });
    synthesise(block, shared, [&](const Pixel& p, T update) { shared.x[p.place] += update; });
  }

  // What the missing pixels of a cut MCU repeat changes with x, which couples the coefficients: K steps of pixels.
  template <typename Block>
  LMAPS_FN void in_pixels(const Block& block, Shared& shared) const {
    const T offset = T(0.5 / 127.5);
    int most = 0;  // the same in every thread, as the barriers in the loop need it
    for (int m = 0; m < grid.mcus; ++m)
      if (shared.corner[m].rows && shared.numbers[m].steps > most) most = shared.numbers[m].steps;
    read_D(block, shared);
    for (int k = 0; k < most; ++k) {
      analyse(block, shared);
      block.each_thread([&](int t) {
        T u[8];
        read_row(shared, t, u);
        quantize(quantizer(shared, t), u);
        write_row(shared, t, u);
      });
      synthesise(block, shared, [&](const Pixel& p, T decoded) {
        const auto& numbers = shared.numbers[p.mcu];
        if (k >= numbers.steps) return;
        const T x = shared.x[p.place];
        const T slope =
            T(numbers.lam) * (x - images.read_D(p, numbers)) + T(numbers.c) * (decoded + offset - images.read_y(p));
        shared.x[p.place] = x - T(numbers.lr) * slope;
      });
    }
  }

  template <typename Block>
  LMAPS_FN void read_D(const Block& block, Shared& shared) const {
    each_pixel<4>(
        block, shared, [&](const Pixel& p) { return images.read_D(p, shared.numbers[p.mcu]); },
        [&](const Pixel& p, T v) { shared.x[p.place] = v; });
  }

  // From pixels to blocks, each of whose columns is transformed. Beyond the border the last row and column repeat.
  template <typename Block>
  LMAPS_FN void analyse(const Block& block, Shared& shared) const {
    const T share = average ? T(1) / T(grid.sub_h * grid.sub_w) : T(1);
    block.each_thread([&](int t) {
      grid.each_sample(shared.corner, t, [&](int m, const Corner& at, int row, int column) {
        T sum[2] = {};
        LMAPS_ROLLED
        for (int k = 0; k < grid.sub_h * grid.sub_w; ++k) {
          const int i = row * grid.sub_h + (k >> (grid.sub_w - 1)), j = column * grid.sub_w + (k & (grid.sub_w - 1));
          const int from_i = i < at.rows ? i : at.rows - 1, from_j = j < at.columns ? j : at.columns - 1;
          T rgb[3][1] = {}, ycc[3][1] = {};
          for (int c = 0; c < 3; ++c)
            if (c < colour.channels) rgb[c][0] = T(127.5) * shared.x[grid.place(m, c, from_i, from_j)];
          colour.mix(colour.forward, rgb, ycc);
          shared.plane[grid.luma(m, i, j)][kRow * (i % 8) + j % 8] = ycc[0][0] - T(0.5);
          if (average || k == 0) sum[0] += ycc[1][0], sum[1] += ycc[2][0];
        }
        if (colour.channels == 3)
          for (int c = 0; c < 2; ++c) shared.plane[grid.chroma(m, c)][kRow * row + column] = share * sum[c];
      });
    });
    block.each_thread([&](int t) {
      T v[8];
      T* column = shared.plane[t / 8] + t % 8;
      for (int i = 0; i < 8; ++i) v[i] = column[kRow * i];
      dct.forward_line(v);
      for (int i = 0; i < 8; ++i) column[kRow * i] = v[i];
    });
  }

  // Back to write(pixel, value), for the pixels that exist.
  template <typename Block, typename Write>
  LMAPS_FN void synthesise(const Block& block, Shared& shared, Write&& write) const {
    block.each_thread([&](int t) {
      T v[8];
      T* column = shared.plane[t / 8] + t % 8;
      for (int i = 0; i < 8; ++i) v[i] = column[kRow * i];
      dct.inverse_line(v);
      for (int i = 0; i < 8; ++i) column[kRow * i] = v[i];
    });
    block.each_thread([&](int t) {
      grid.each_sample(shared.corner, t, [&](int m, const Corner& at, int row, int column) {
        T ycc[3][1] = {}, rgb[3][1] = {};
        if (colour.channels == 3)
          for (int c = 0; c < 2; ++c) ycc[1 + c][0] = shared.plane[grid.chroma(m, c)][kRow * row + column];
        LMAPS_ROLLED
        for (int k = 0; k < grid.sub_h * grid.sub_w; ++k) {
          const int i = row * grid.sub_h + (k >> (grid.sub_w - 1)), j = column * grid.sub_w + (k & (grid.sub_w - 1));
          if (i >= at.rows || j >= at.columns) continue;
          ycc[0][0] = shared.plane[grid.luma(m, i, j)][kRow * (i % 8) + j % 8];
          colour.mix(colour.inverse, ycc, rgb);
          for (int c = 0; c < 3; ++c)
            if (c < colour.channels) {
              const Pixel p{grid.place(m, c, i, j), m, c, true, at.n, (at.top + i) * grid.width + at.left + j};
              write(p, rgb[c][0] * T(1 / 127.5));
            }
        }
      });
    });
  }

  // write(pixel, read(pixel)) for the pixels that exist: read of N at once, so that their loads are under way together.
  template <int N, typename Block, typename Read, typename Write>
  LMAPS_FN void each_pixel(const Block& block, const Shared& shared, Read&& read, Write&& write) const {
    block.each_thread([&](int t) {
      LMAPS_ROLLED
      for (int first = t; first < grid.pixels(); first += N * kThreads) {
        Pixel p[N];
        decltype(read(p[0])) value[N] = {};
        for (int k = 0; k < N; ++k) {
          const int place = first + k * kThreads;
          p[k] = grid.pixel_at(shared.corner, place < grid.pixels() ? place : first);
          p[k].exists = p[k].exists && place < grid.pixels();
        }
        for (int k = 0; k < N; ++k)
          if (p[k].exists) value[k] = read(p[k]);
        for (int k = 0; k < N; ++k)
          if (p[k].exists) write(p[k], value[k]);
      }
    });
  }

  // The MCU of thread t's block of coefficients, and the quantization steps of its row.
  LMAPS_FN int mcu(int t) const { return t / 8 / grid.shape.blocks; }
  LMAPS_FN const float* quantizer(const Shared& shared, int t) const {
    const float* tables = tables_of(images.a, shared.corner[mcu(t)].n);
    return grid.shape.quantizer(tables, t / 8 % grid.shape.blocks) + 8 * (t % 8);
  }

  // Thread t's row of a block whose columns are transformed, to its coefficients and back.
  LMAPS_FN void read_row(const Shared& shared, int t, T (&u)[8]) const {
    for (int j = 0; j < 8; ++j) u[j] = shared.plane[t / 8][kRow * (t % 8) + j];
    dct.forward_line(u);
  }
  LMAPS_FN void write_row(Shared& shared, int t, T (&u)[8]) const {
    dct.inverse_line(u);
    for (int j = 0; j < 8; ++j) shared.plane[t / 8][kRow * (t % 8) + j] = u[j];
  }
};

}  // namespace LMAPS_NAMESPACE
