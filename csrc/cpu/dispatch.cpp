// Which instruction set runs.
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "kernels.h"

namespace lmaps_baseline {
extern const CpuKernels kernels;
}
#ifdef LMAPS_X86
namespace lmaps_avx2 {
extern const CpuKernels kernels;
}
namespace lmaps_avx512 {
extern const CpuKernels kernels;
}
#endif

const CpuKernels* find_isa(const char* name) {
#ifdef LMAPS_X86
  if (!std::strcmp(name, "avx512"))
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")
               ? &lmaps_avx512::kernels
               : nullptr;
  if (!std::strcmp(name, "avx2"))
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &lmaps_avx2::kernels : nullptr;
#endif
  return std::strcmp(name, "baseline") ? nullptr : &lmaps_baseline::kernels;
}

const CpuKernels& cpu_kernels() {
  static const CpuKernels* chosen = [] {
    if (const char* forced = std::getenv("LMAPS_FAST_ISA"); forced && *forced) {
      if (const CpuKernels* kernels = find_isa(forced)) return kernels;
      throw std::runtime_error("LMAPS_FAST_ISA=" + std::string(forced) +
                               " cannot run here: set it to one that `lmaps-fast info` lists, or unset it");
    }
    for (const char* name : {"avx512", "avx2"})
      if (const CpuKernels* kernels = find_isa(name)) return kernels;
    return find_isa("baseline");
  }();
  return *chosen;
}
