// What the JPEG kernel reads D and y from and writes x0 to.
#pragma once
#include "mcus.h"
#include "threads.h"

namespace LMAPS_NAMESPACE {

// The images of a local MAP alone. `Rest` is what a pixel's x0 is written with.
template <typename T>
struct MapImages {
  using Number = T;
  struct Rest {};
  T* out;
  const T *D, *y;
  int64_t image, plane;

  explicit MapImages(const JpegArguments& a)
      : out(static_cast<T*>(a.out)),
        D(static_cast<const T*>(a.D)),
        y(static_cast<const T*>(a.y)),
        image(a.tables.channels * a.height * a.width),
        plane(a.height * a.width) {}

  LMAPS_FN T read_D(const Pixel& p) const { return D[at(p)]; }
  LMAPS_FN T read_y(const Pixel& p) const { return y[at(p)]; }
  LMAPS_FN Rest read_rest(const Pixel&) const { return {}; }
  LMAPS_FN void write(const Pixel& p, T x0, Rest) const { out[at(p)] = x0; }

 private:
  LMAPS_FN int64_t at(const Pixel& p) const { return p.n * image + p.c * plane + p.hw; }
};

// Those of a fused step.
struct StepImages {
  using Number = float;
  struct Rest {
    float x, eps;
  };
  Between b;

  LMAPS_FN float read_D(const Pixel& p) const {
    const Place from = place(p);
    return denoised(b, b.x[from.image], network_value(b, network_bits(b, from)));
  }
  LMAPS_FN float read_y(const Pixel& p) const { return b.y[place(p).image]; }
  LMAPS_FN Rest read_rest(const Pixel& p) const {
    const float eps = b.noise != 0 ? normal_at(b.keys[p.n], b.draw, p.c * b.height * b.width + p.hw) : 0.0f;
    return {b.x[place(p).image], eps};
  }
  LMAPS_FN void write(const Pixel& p, float x0, Rest rest) const { write_step(b, place(p), rest.x, x0, rest.eps); }

 private:
  LMAPS_FN Place place(const Pixel& p) const { return Place(b, p.n, p.c, p.hw); }
};

}  // namespace LMAPS_NAMESPACE
