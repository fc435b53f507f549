// The checks of a kernel's arguments, each refused in one sentence.
#include "checks.h"

#include <stdexcept>
#include <string>

#include "core/pointwise.h"

using namespace LMAPS_NAMESPACE;

namespace {

// The fields that one kernel needs.
struct Needs {
  std::string kernel;

  void that(bool holds, const std::string& sentence) const {
    if (!holds) throw std::invalid_argument(kernel + " " + sentence);
  }
  void address(const char* field, const void* value) const {
    that(value, std::string("needs ") + field + ", whose address is 0");
  }
  void rows(const char* field, int64_t rows, int64_t images) const {
    that(rows == 1 || rows == images,
         std::string("needs ") + field + " of 1 or " + std::to_string(images) + ", not " + std::to_string(rows));
  }
  void table(const char* field, const void* value, const char* rows_field, int64_t count, int64_t images) const {
    address(field, value);
    rows(rows_field, count, images);
  }

  // What a functor is made of besides weights.
  template <typename Functor, typename Arguments>
  void parameters(const Arguments& a, int64_t images) const {
    if constexpr (Functor::kParameters > 0) {
      table("parameters", a.parameters, "parameter_rows", a.parameter_rows, images);
      that(a.parameter_count >= Functor::kParameters, "needs parameter_count of " +
                                                          std::to_string(Functor::kParameters) + ", not " +
                                                          std::to_string(a.parameter_count));
    }
  }
};

const char* text_of(Pointwise name) {
  switch (name) {
#define LMAPS_TEXT(kind, Functor) \
  case Pointwise::kind: return #kind;
    LMAPS_POINTWISE(LMAPS_TEXT)
#undef LMAPS_TEXT
    case Pointwise::jpeg_map: return "jpeg_map";
  }
  return "a kernel without a name";
}

}  // namespace

bool empty(const PointwiseArguments& a) { return a.images <= 0 || a.rows_per_image <= 0 || a.pixels <= 0; }
bool empty(const JpegArguments& a) { return a.batch <= 0 || a.height <= 0 || a.width <= 0; }
bool empty(const NormalArguments& a) { return a.images <= 0 || a.pixels <= 0; }
bool empty(const StepArguments& a) { return a.batch <= 0 || a.channels <= 0 || a.height <= 0 || a.width <= 0; }

void check(const PointwiseArguments& a) {
  const Needs needs{text_of(a.name)};
  needs.that(a.name != Pointwise::jpeg_map, "is not pointwise: call the kernel jpeg_map");
  needs.address("out", a.out);
  needs.address("D", a.D);
  needs.address("y", a.y);
  with_pointwise<float>(a.name, [&](auto type) {
    using Functor = typename decltype(type)::type;
    if constexpr (kTakesWeights<Functor>) needs.table("weights", a.weights, "weight_rows", a.weight_rows, a.images);
    if constexpr (kTakesS<Functor, float>) {
      needs.table("s", a.s, "s_images", a.s_images, a.images);
      needs.rows("s_rows", a.s_rows, a.rows_per_image);
    }
    needs.parameters<Functor>(a, a.images);
    needs.that(a.pixels % Functor::kGroup == 0, "needs pixels in groups of " + std::to_string(Functor::kGroup));
  });
}

void check(const JpegCodec& codec) {
  const Needs needs{"JpegCodec"};
  needs.that(codec.channels == 1 || codec.channels == 3, "needs channels of 1 or 3");
  needs.that(codec.sub_h == 1 || codec.sub_h == 2, "needs sub_h of 1 or 2");
  needs.that(codec.sub_w == 1 || codec.sub_w == 2, "needs sub_w of 1 or 2");
}

void check(const JpegArguments& a) {
  const Needs needs{"jpeg_map"};
  needs.address("out", a.out);
  needs.address("D", a.D);
  needs.address("y", a.y);
  needs.table("weights", a.weights, "weight_rows", a.weight_rows, a.batch);
  needs.table("tables", a.tables, "table_rows", a.table_rows, a.batch);
  needs.that(a.codec.channels, "needs a codec");
}

void check(const NormalArguments& a) {
  const Needs needs{"add_normal"};
  needs.address("out", a.out);
  needs.address("x", a.x);
  needs.address("keys", a.keys);
  needs.table("draws", a.draws, "draw_rows", a.draw_rows, a.images);
  needs.table("sigmas", a.sigmas, "sigma_rows", a.sigma_rows, a.images);
}

void check(const StepArguments& a) {
  const Needs needs{std::string("step with ") + text_of(a.name)};
  needs.address("x", a.x);
  needs.address("x0", a.x0);
  needs.address("network_input", a.network_input);
  needs.address("y", a.y);
  needs.address("keys", a.keys);
  needs.table("levels", a.levels, "level_rows", a.level_rows, a.batch);
  if (a.name == Pointwise::jpeg_map) {
    needs.table("tables", a.tables, "table_rows", a.table_rows, a.batch);
    needs.that(a.codec.channels == a.channels, "needs a codec of as many channels as x");
  }
  with_pointwise<float>(a.name, [&](auto type) {
    using Functor = typename decltype(type)::type;
    needs.that(Functor::kGivesX0, "is no kernel: its result is not a local MAP");
    if constexpr (kTakesS<Functor, float>) {
      needs.table("s", a.s, "s_images", a.s_images, a.batch);
      needs.rows("s_channels", a.s_channels, a.channels);
    }
    needs.parameters<Functor>(a, a.batch);
  });
}
