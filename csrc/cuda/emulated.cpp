// Loops over all threads of all blocks, in place of a GPU.
#include "emulated.h"

#include "block.h"
#include "jpeg_block.h"
#include "jpeg_images.h"
#include "threads.h"

namespace LMAPS_NAMESPACE {
namespace {

template <typename Thread>
void each_lane(const Thread& thread, int64_t images, int64_t pixels) {
  for (int64_t n = 0; n < images; ++n)
    for (int64_t i = 0; i < lanes(pixels); ++i) thread(Lane{n, i / kCounters, int(i % kCounters)});
}

template <typename Images>
void jpeg(const Images& images, const JpegTables& tables, const Weights& weights, int64_t batch, int64_t height,
          int64_t width) {
  const JpegBlock<Images> kernel(images, tables, weights, batch, height, width);
  emulate(kernel, kernel.grid.blocks);
}

}  // namespace
}  // namespace LMAPS_NAMESPACE

using namespace LMAPS_NAMESPACE;

void emulated_jpeg_map(const JpegArguments& a) {
  a.is_double ? jpeg(MapImages<double>(a), a.tables, a.weights, a.batch, a.height, a.width)
              : jpeg(MapImages<float>(a), a.tables, a.weights, a.batch, a.height, a.width);
}

void emulated_add_normal(const NormalArguments& a) {
  a.is_double ? each_lane(AddNormalThread<double>{a}, a.images, a.pixels)
              : each_lane(AddNormalThread<float>{a}, a.images, a.pixels);
}

void emulated_step(const StepArguments& a) {
  const Between& b = a.between;
  if (a.name == Pointwise::jpeg_map)
    jpeg(StepImages{b}, *a.tables, a.weights, b.batch, b.height, b.width);
  else
    with_functor(a, [&](const auto& f) {
      each_lane(StepThread<std::decay_t<decltype(f)>>{f, b}, b.batch, b.channels * b.height * b.width);
    });
}
