// The code of the CUDA kernels on the CPU, one thread after the other: for tests on machines without a GPU.
#pragma once
#include "../core/arguments.h"

void emulated_pointwise(const PointwiseArguments& arguments);
void emulated_jpeg_map(const JpegArguments& arguments);
void emulated_add_normal(const NormalArguments& arguments);
void emulated_step(const StepArguments& arguments);
