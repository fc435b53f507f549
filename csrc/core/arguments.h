// What a kernel is called with: addresses and sizes, no tensors. Numbers that may differ between the images of a batch
// stand in tables of 1 row, for all images, or of one row for each; core/rows.h names their columns.
#pragma once
#include <cstdint>

#include "kinds.h"

// out[n, r, i] = f(D[n, r, i], y[n, r, i], s[n, r, i]): pixel i of row r of image n.
// s is [s_images, s_rows, pixels], where 1 image or 1 row stands for all; some functors have no s.
struct PointwiseArguments {
  Pointwise name;
  void* out;
  const void *D, *y, *s;
  int64_t images, rows_per_image, pixels, s_images, s_rows;
  bool is_double;
  const double* weights;
  int64_t weight_rows;
  const double* parameters;
  int64_t parameter_rows, parameter_count;
};

// out[n, i] = x[n, i] + sigma (normal number i of keys[n] and draw)
struct NormalArguments {
  void* out;
  const void* x;
  const uint64_t* keys;
  int64_t images, pixels;
  const int64_t* draws;
  int64_t draw_rows;
  const double* sigmas;
  int64_t sigma_rows;
  bool is_double;
};

// What the images of one JPEG operator share. channels is 0 where there is no codec.
struct JpegCodec {
  int channels;                         // 1 (grey: luma only) or 3
  int sub_h, sub_w;                     // rows and columns of pixels per chroma sample: 1 or 2
  bool average;                         // chroma = mean of its pixels (libjpeg); otherwise the first of them
  double forward[3][3], inverse[3][3];  // RGB -> YCbCr and its exact inverse
};

// out, D, y: [batch, channels of the codec, height, width]; tables: the quantization steps of luma and chroma of each
// row, [table_rows, 2, 64], each in natural (row-major) order.
struct JpegArguments {
  void* out;
  const void *D, *y;
  int64_t batch, height, width;
  bool is_double;
  const double* weights;
  int64_t weight_rows;
  const float* tables;
  int64_t table_rows;
  JpegCodec codec;
};

// The numbers of the network's tensors.
enum class NetworkType { float32, bfloat16, float16 };

// A local MAP and what surrounds it between two network calls:
//   D = skip x + out F;  x0 = local MAP of D;  x <- x0 + keep (x - x0) + noise eps;  network_input = scale x,
// eps being normal number i of keys[n] and draw for pixel i of image n. All are [batch, channels, height, width] but
// s [s_images, s_channels, height, width]; F and network_input may be [batch, height, width, channels]. F may be null.
struct StepArguments {
  Pointwise name;
  float *x, *x0;
  void* network_input;
  const void* F;
  const float *y, *s;
  const uint64_t* keys;
  int64_t batch, channels, height, width, s_images, s_channels;
  NetworkType network_type;
  bool channels_last;
  const double* levels;
  int64_t level_rows;
  const double* parameters;
  int64_t parameter_rows, parameter_count;
  const float* tables;
  int64_t table_rows;
  JpegCodec codec;
};
