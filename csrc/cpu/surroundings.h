// What surrounds a local MAP on the CPU, a block of normal numbers at a time, in local arrays of constant length.
#pragma once
#include "../core/step.h"

namespace LMAPS_NAMESPACE {

// A run of pixels of image n that lies in one of its blocks of kNormals.
struct Run {
  int64_t n, begin;
  int count;
};

// f(runs of pixels from begin to end of image n)
template <typename F>
void each_run(int64_t n, int64_t begin, int64_t end, F&& f) {
  for (int64_t next; begin < end; begin = next) {
    next = (begin / kNormals + 1) * kNormals;
    if (next > end) next = end;
    f(Run{n, begin, int(next - begin)});
  }
}

// f(first of the run, channel, pixel in it, count), for each part of a run that lies in one channel
template <typename F>
void each_channel(const Between& b, const Run& run, F&& f) {
  const int64_t pixels = b.height * b.width;
  int64_t c = run.begin / pixels, hw = run.begin % pixels;
  for (int first = 0; first < run.count; ++c, hw = 0) {
    const int count = run.count - first < pixels - hw ? run.count - first : int(pixels - hw);
    f(first, c, hw, count);
    first += count;
  }
}

// move(pixel of the run, place in a network tensor): how a run lies in it
template <typename Move>
LMAPS_FN void each_network_place(const Between& b, const Run& run, Move&& move) {
  const int64_t pixels = b.height * b.width, image = run.n * b.channels * pixels;
  if (!b.channels_last) {
    for (int j = 0; j < run.count; ++j) move(j, image + run.begin + j);
    return;
  }
  each_channel(b, run, [&](int first, int64_t c, int64_t hw, int count) {
    for (int j = 0; j < count; ++j) move(first + j, image + (hw + j) * b.channels + c);
  });
}

// f(address as a pointer to the network's type)
template <typename Void, typename F>
void with_network_type(NetworkType type, Void* address, F&& f) {
  constexpr bool kConst = std::is_const_v<Void>;
  switch (type) {
    case NetworkType::float32: return f(static_cast<std::conditional_t<kConst, const float, float>*>(address));
    case NetworkType::bfloat16: return f(static_cast<std::conditional_t<kConst, const BFloat16, BFloat16>*>(address));
    case NetworkType::float16: return f(static_cast<std::conditional_t<kConst, const Float16, Float16>*>(address));
  }
}

inline void copy(const float* from, float* to, int count) { std::memcpy(to, from, count * sizeof(float)); }

// D of a run.
inline void before(const Between& b, const Run& run, float (&D)[kNormals]) {
  float x[kNormals] = {}, F[kNormals] = {};
  copy(b.x + run.n * b.channels * b.height * b.width + run.begin, x, run.count);
  if (b.F)
    with_network_type(b.type, b.F, [&](const auto* from) {
      each_network_place(b, run, [&](int j, int64_t at) { F[j] = to_float(from[at]); });
    });
  for (int j = 0; j < kNormals; ++j) D[j] = denoised(b, x[j], F[j]);
}

// All that is made of the x0 of a run.
inline void after(const Between& b, const Run& run, const float (&x0)[kNormals]) {
  const int64_t at = run.n * b.channels * b.height * b.width + run.begin;
  float x[kNormals] = {}, eps[kNormals] = {}, next_x[kNormals], input[kNormals];
  if (b.x0) copy(x0, b.x0 + at, run.count);
  copy(b.x + at, x, run.count);
  if (b.noise != 0) {
    float normal[kNormals];
    normals<kCounters>(b.keys[run.n], b.draw, run.begin / kNormals * kCounters, normal);
    copy(normal + run.begin % kNormals, eps, run.count);
  }
  for (int j = 0; j < kNormals; ++j) next_x[j] = next(b, x[j], x0[j], eps[j]), input[j] = b.scale * next_x[j];
  copy(next_x, b.x_next + at, run.count);
  if (b.input)
    with_network_type(b.type, b.input, [&](auto* to) {
      each_network_place(b, run, [&](int j, int64_t place) { from_float(input[j], to[place]); });
    });
}

}  // namespace LMAPS_NAMESPACE
