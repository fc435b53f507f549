// What one thread of the kernels without barriers does: the four pixels 64 apart whose normal numbers come from one
// counter. Neighbouring lanes have neighbouring pixels. kResident blocks of threads fit on a multiprocessor at least.
#pragma once
#include "../core/step.h"

namespace LMAPS_NAMESPACE {

// Which pixels: block of kNormals of image n, lane in 0 .. kCounters - 1.
struct Lane {
  int64_t n, block;
  int lane;

  LMAPS_FN int64_t pixel(int i) const { return block * kNormals + i * kCounters + lane; }
  LMAPS_FN int64_t counter() const { return block * kCounters + lane; }
};

LMAPS_FN int64_t lanes(int64_t pixels) { return (pixels + kNormals - 1) / kNormals * kCounters; }

template <typename T>
struct AddNormalThread {
  static constexpr int kResident = 8;
  NormalArguments a;

  LMAPS_FN void operator()(const Lane& at) const {
    const T* x = static_cast<const T*>(a.x) + at.n * a.pixels;
    T* out = static_cast<T*>(a.out) + at.n * a.pixels;
    const T sigma = T(sigma_of(a, at.n));
    float eps[4];
    normals<1>(a.keys[at.n], draw_of(a, at.n), at.counter(), eps);
    for (int i = 0; i < 4; ++i)
      if (const int64_t p = at.pixel(i); p < a.pixels) out[p] = x[p] + sigma * T(eps[i]);
  }
};

// Where pixel hw of channel c of image n stands.
struct Place {
  int64_t image, network, s;

  LMAPS_FN Place(const StepArguments& a, int64_t n, int64_t c, int64_t hw) {
    const int64_t pixels = a.height * a.width, first = n * a.channels * pixels;
    image = first + c * pixels + hw;
    network = a.channels_last ? first + hw * a.channels + c : image;
    s = s_row(a.s_images, a.s_channels, n, c) * pixels + hw;
  }
};

// F in two halves, so that the loads of several pixels can be under way at once: its bits, then its value.
LMAPS_FN uint32_t network_bits(const StepArguments& a, const Place& place) {
  if (!a.F) return 0;
  return a.network_type == NetworkType::float32 ? static_cast<const uint32_t*>(a.F)[place.network]
                                                : static_cast<const uint16_t*>(a.F)[place.network];
}
LMAPS_FN float network_value(const StepArguments& a, uint32_t bits) {
  if (a.network_type == NetworkType::float32) return float_of(bits);
  return a.network_type == NetworkType::bfloat16 ? to_float(BFloat16{uint16_t(bits)})
                                                 : to_float(Float16{uint16_t(bits)});
}

// All that is made of one pixel's x0.
LMAPS_FN void write_step(const StepArguments& a, const Levels& levels, const Place& place, float x, float x0,
                         float eps) {
  const float x_next = next(levels, x, x0, eps), input = levels.scale * x_next;
  a.x0[place.image] = x0;
  a.x[place.image] = x_next;
  switch (a.network_type) {
    case NetworkType::float32: return from_float(input, static_cast<float*>(a.network_input)[place.network]);
    case NetworkType::bfloat16: return from_float(input, static_cast<BFloat16*>(a.network_input)[place.network]);
    case NetworkType::float16: return from_float(input, static_cast<Float16*>(a.network_input)[place.network]);
  }
}

template <typename Functor>
struct StepThread {
  static constexpr int kResident = 3;
  StepArguments a;

  LMAPS_FN void operator()(const Lane& at) const {
    const Levels levels = numbers_of(a, at.n);
    const Functor f = functor_of<Functor>(a, at.n);
    const int64_t pixels = a.height * a.width, size = a.channels * pixels;
    const auto place = [&](int i) {
      const int64_t p = at.pixel(i) < size ? at.pixel(i) : size - 1;
      return Place(a, at.n, p / pixels, p % pixels);
    };
    float x[4], y[4], s[4], D[4], x0[4], eps[4] = {};
    uint32_t F[4];
    for (int i = 0; i < 4; ++i) {
      const Place from = place(i);
      x[i] = a.x[from.image];
      y[i] = a.y[from.image];
      F[i] = network_bits(a, from);
      if constexpr (kTakesS<Functor, float>) s[i] = a.s[from.s];
    }
    for (int i = 0; i < 4; ++i) D[i] = denoised(levels, x[i], network_value(a, F[i]));
    if constexpr (kTakesS<Functor, float>)
      f(D, y, s, x0);
    else
      f(D, y, x0);
    if (levels.noise != 0) normals<1>(a.keys[at.n], levels.draw, at.counter(), eps);
    for (int i = 0; i < 4; ++i)
      if (at.pixel(i) < size) write_step(a, levels, place(i), x[i], x0[i], eps[i]);
  }
};

}  // namespace LMAPS_NAMESPACE
