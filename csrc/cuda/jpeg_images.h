// What the JPEG kernel reads D and y from and writes x0 to, and the numbers of each image.
#pragma once
#include "mcus.h"
#include "threads.h"

namespace LMAPS_NAMESPACE {

// The images of a local MAP alone. `Rest` is what a pixel's x0 is written with.
template <typename T>
struct MapImages {
  using Number = T;
  using Numbers = Weights;
  struct Rest {};
  JpegArguments a;
  int64_t plane, image;

  explicit MapImages(const JpegArguments& arguments)
      : a(arguments), plane(a.height * a.width), image(a.codec.channels * plane) {}

  LMAPS_FN T read_D(const Pixel& p, const Weights&) const { return static_cast<const T*>(a.D)[at(p)]; }
  LMAPS_FN T read_y(const Pixel& p) const { return static_cast<const T*>(a.y)[at(p)]; }
  LMAPS_FN Rest read_rest(const Pixel&, const Weights&) const { return {}; }
  LMAPS_FN void write(const Pixel& p, const Weights&, T x0, Rest) const { static_cast<T*>(a.out)[at(p)] = x0; }

 private:
  LMAPS_FN int64_t at(const Pixel& p) const { return p.n * image + p.c * plane + p.hw; }
};

// Those of a fused step.
struct StepImages {
  using Number = float;
  using Numbers = Levels;
  struct Rest {
    float x, eps;
  };
  StepArguments a;

  LMAPS_FN float read_D(const Pixel& p, const Levels& levels) const {
    const Place from = place(p);
    return denoised(levels, a.x[from.image], network_value(a, network_bits(a, from)));
  }
  LMAPS_FN float read_y(const Pixel& p) const { return a.y[place(p).image]; }
  LMAPS_FN Rest read_rest(const Pixel& p, const Levels& levels) const {
    const int64_t position = p.c * a.height * a.width + p.hw;
    return {a.x[place(p).image], levels.noise != 0 ? normal_at(a.keys[p.n], levels.draw, position) : 0.0f};
  }
  LMAPS_FN void write(const Pixel& p, const Levels& levels, float x0, Rest rest) const {
    write_step(a, levels, place(p), rest.x, x0, rest.eps);
  }

 private:
  LMAPS_FN Place place(const Pixel& p) const { return Place(a, p.n, p.c, p.hw); }
};

}  // namespace LMAPS_NAMESPACE
