// The blocks of one MCU on the CPU, in rows of SIMD.
#pragma once
#include "../core/jpeg.h"

namespace LMAPS_NAMESPACE {

// The blocks of one MCU (up to four of luma, then two of chroma) and the way between them and pixels.
template <typename T>
struct Mcu : McuShape {
  const JpegCodec& jpeg;
  const float* tables;
  const Dct8<T>& dct;
  const Colour<T>& colour;
  T block[6][64];

  Mcu(const JpegCodec& codec, const float* quantizers, const Dct8<T>& transform, const Colour<T>& mixer)
      : McuShape(codec), jpeg(codec), tables(quantizers), dct(transform), colour(mixer) {}

  const float* quantizer(int b) const { return McuShape::quantizer(tables, b); }

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
      colour.mix(colour.forward, pixel, ycc);
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
      colour.mix(colour.inverse, ycc, pixel);
      for (int c = 0; c < jpeg.channels; ++c)
        for (int j = 0; j < columns; ++j) write(c, i, j, pixel[c][j] * T(1 / 127.5));
    }
  }
};

}  // namespace LMAPS_NAMESPACE
