// The loops as one instruction set compiles them.
#pragma once
#include "kernels.h"

namespace LMAPS_NAMESPACE {

void pointwise(const PointwiseArguments& arguments, int threads);
void jpeg_map(const JpegArguments& arguments, int threads);
void add_normal(const NormalArguments& arguments, int threads);
void step(const StepArguments& arguments, int threads);
void jpeg_step(const StepArguments& arguments, int threads);

}  // namespace LMAPS_NAMESPACE
