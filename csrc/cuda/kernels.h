// The CUDA kernels. Each returns a cudaError_t as an int, so that callers need no CUDA header.
#pragma once
#include "../core/arguments.h"

int cuda_pointwise(Pointwise name, const PointwiseArguments& arguments, void* stream);
const char* cuda_error(int code);
