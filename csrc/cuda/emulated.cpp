// Loops over all threads of all blocks, in place of a GPU.
#include "emulated.h"

#include "block.h"
#include "jpeg_block.h"
#include "jpeg_images.h"
#include "packs.h"
#include "threads.h"

namespace LMAPS_NAMESPACE {
namespace {

template <typename T>
void packs(const PointwiseArguments& a) {
  constexpr int64_t kThreads = 5;  // few, so that each walks over several packs
  with_widest_packs<T>(a, [&](const auto& thread) {
    for (int64_t row = 0; row < a.images * a.rows_per_image; ++row)
      for (int64_t first = 0; first < kThreads; ++first) thread(row, first, kThreads);
  });
}

template <typename Thread>
void each_lane(const Thread& thread, int64_t images, int64_t pixels) {
  for (int64_t n = 0; n < images; ++n)
    for (int64_t i = 0; i < lanes(pixels); ++i) thread(Lane{n, i / kCounters, int(i % kCounters)});
}

template <typename Images>
void jpeg(const Images& images) {
  const JpegBlock<Images> kernel(images);
  emulate(kernel, kernel.grid.blocks);
}

}  // namespace
}  // namespace LMAPS_NAMESPACE

using namespace LMAPS_NAMESPACE;

void emulated_pointwise(const PointwiseArguments& a) { a.is_double ? packs<double>(a) : packs<float>(a); }

void emulated_jpeg_map(const JpegArguments& a) { a.is_double ? jpeg(MapImages<double>(a)) : jpeg(MapImages<float>(a)); }

void emulated_add_normal(const NormalArguments& a) {
  a.is_double ? each_lane(AddNormalThread<double>{a}, a.images, a.pixels)
              : each_lane(AddNormalThread<float>{a}, a.images, a.pixels);
}

void emulated_step(const StepArguments& a) {
  if (a.name == Pointwise::jpeg_map) return jpeg(StepImages{a});
  with_pointwise<float>(a.name, [&](auto type) {
    using Functor = typename decltype(type)::type;
    if constexpr (Functor::kGivesX0) each_lane(StepThread<Functor>{a}, a.batch, a.channels * a.height * a.width);
  });
}
