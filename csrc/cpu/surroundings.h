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
void each_channel(const StepArguments& a, const Run& run, F&& f) {
  const int64_t pixels = a.height * a.width;
  int64_t c = run.begin / pixels, hw = run.begin % pixels;
  for (int first = 0; first < run.count; ++c, hw = 0) {
    const int count = run.count - first < pixels - hw ? run.count - first : int(pixels - hw);
    f(first, c, hw, count);
    first += count;
  }
}

// move(pixel of the run, place in a network tensor): how a run lies in it
template <typename Move>
LMAPS_FN void each_network_place(const StepArguments& a, const Run& run, Move&& move) {
  const int64_t pixels = a.height * a.width, image = run.n * a.channels * pixels;
  if (!a.channels_last) {
    for (int j = 0; j < run.count; ++j) move(j, image + run.begin + j);
    return;
  }
  each_channel(a, run, [&](int first, int64_t c, int64_t hw, int count) {
    for (int j = 0; j < count; ++j) move(first + j, image + (hw + j) * a.channels + c);
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
inline void before(const StepArguments& a, const Levels& levels, const Run& run, float (&D)[kNormals]) {
  float x[kNormals] = {}, F[kNormals] = {};
  copy(a.x + run.n * a.channels * a.height * a.width + run.begin, x, run.count);
  if (a.F)
    with_network_type(a.network_type, a.F, [&](const auto* from) {
      each_network_place(a, run, [&](int j, int64_t at) { F[j] = to_float(from[at]); });
    });
  for (int j = 0; j < kNormals; ++j) D[j] = denoised(levels, x[j], F[j]);
}

// All that is made of the x0 of a run.
inline void after(const StepArguments& a, const Levels& levels, const Run& run, const float (&x0)[kNormals]) {
  const int64_t at = run.n * a.channels * a.height * a.width + run.begin;
  float x[kNormals] = {}, eps[kNormals] = {}, next_x[kNormals], input[kNormals];
  copy(x0, a.x0 + at, run.count);
  copy(a.x + at, x, run.count);
  if (levels.noise != 0) {
    float normal[kNormals];
    normals<kCounters>(a.keys[run.n], levels.draw, run.begin / kNormals * kCounters, normal);
    copy(normal + run.begin % kNormals, eps, run.count);
  }
  for (int j = 0; j < kNormals; ++j) next_x[j] = next(levels, x[j], x0[j], eps[j]), input[j] = levels.scale * next_x[j];
  copy(next_x, a.x + at, run.count);
  with_network_type(a.network_type, a.network_input, [&](auto* to) {
    each_network_place(a, run, [&](int j, int64_t place) { from_float(input[j], to[place]); });
  });
}

}  // namespace LMAPS_NAMESPACE
