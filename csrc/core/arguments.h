// What a kernel is called with: addresses and sizes, no tensors.
#pragma once
#include <cstdint>

#include "jpeg.h"
#include "weights.h"

// The local MAPs that are made of each pixel on its own, and those that only the fused step takes: given, which is made
// elsewhere, and jpeg_map, made of each MCU.
enum class Pointwise { diagonal_map, spectral_update, clip_map, quantization_map, phase_projection, given, jpeg_map };

// out[n, i] = f(D[n, i], y[n, i], s[(n / repeat) % s_rows, i]); clip, quantization and phase have no s
struct PointwiseArguments {
  Pointwise name;
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

// The numbers of the network's tensors.
enum class NetworkType { float32, bfloat16, float16 };

// What surrounds a local MAP between two network calls:
//   D = skip x + out F;  x0 = local MAP of D;  x_next = x0 + keep (x - x0) + noise eps;  input = scale x_next,
// eps being normal number i of keys[n] and draw for pixel i of image n. All are [batch, channels, height, width] but
// s [s_rows, height, width]; F and input may be channels_last. Any of x0, input and F may be null; x_next may be x.
struct Between {
  float *x0, *x_next;
  void* input;
  const void* F;
  const float *x, *y, *s;
  const uint64_t* keys;
  int64_t batch, channels, height, width, s_rows;
  NetworkType type;
  bool channels_last;
  uint32_t draw;
  float skip, out, keep, noise, scale;
};

struct StepArguments {
  Between between;
  Pointwise name;
  Weights weights;
  double parameters[3];
  const JpegTables* tables;  // of jpeg_map
};
