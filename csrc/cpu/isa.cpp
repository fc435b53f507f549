// One instruction set's table of kernels. CMake compiles this file and the loops once per set.
#include <omp.h>

#include "loops.h"

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)

namespace LMAPS_NAMESPACE {
namespace {

int thread_count(int threads) {
  int count = 0;
#pragma omp parallel num_threads(threads)
#pragma omp single
  count = omp_get_num_threads();
  return count;
}

}  // namespace

extern const CpuKernels kernels;
const CpuKernels kernels = {TEXT(LMAPS_ISA), pointwise, jpeg_map, add_normal, step, thread_count};

}  // namespace LMAPS_NAMESPACE
