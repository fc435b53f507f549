// What a kernel is called with: addresses and sizes, no tensors. Real numbers are float32 or float64 throughout.
#pragma once
#include <cstdint>

#include "jpeg.h"
#include "weights.h"

enum class Pointwise { diagonal_map, spectral_update, clip_map, quantization_map, phase_projection };

// out[n, i] = f(D[n, i], y[n, i], s[(n / repeat) % s_rows, i]); the last three have no s
struct PointwiseArguments {
  void* out;
  const void *D, *y, *s;
  int64_t rows, pixels;      // n and i
  int64_t s_rows, s_repeat;  // s may be shared by all rows or by the channels of an image
  bool is_double;
  Weights weights;
  double parameters[3];
};

// out[n, i] = x[n, i] + sigma * (normal number i of keys[n] and draw)
struct NormalArguments {
  void* out;
  const void* x;
  const uint64_t* keys;
  int64_t images, pixels;
  uint32_t draw;
  double sigma;
  bool is_double;
};

// out, D, y: [batch, channels, height, width]
struct JpegArguments {
  void* out;
  const void *D, *y;
  int64_t batch, height, width;
  bool is_double;
  Weights weights;
  JpegTables tables;
};
