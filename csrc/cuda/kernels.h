// The CUDA kernels. Each returns a cudaError_t as an int, so that callers need no CUDA header.
#pragma once
#include "../core/arguments.h"

int cuda_pointwise(const PointwiseArguments& arguments, void* stream);
int cuda_jpeg_map(const JpegArguments& arguments, void* stream);
int cuda_add_normal(const NormalArguments& arguments, void* stream);
int cuda_step(const StepArguments& arguments, void* stream);
int cuda_jpeg_step(const StepArguments& arguments, void* stream);  // cuda_step with jpeg_map
const char* cuda_error(int code);
