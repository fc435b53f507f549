// The CPU kernels: one table of functions per instruction set, chosen at run time.
#pragma once
#include "../core/arguments.h"

struct CpuKernels {
  const char* isa;
  void (*pointwise)(const PointwiseArguments&, int threads);
  void (*jpeg_map)(const JpegArguments&, int threads);
  void (*add_normal)(const NormalArguments&, int threads);
  void (*step)(const StepArguments&, int threads);
  int (*thread_count)(int threads);  // how many OpenMP threads really run
};

const CpuKernels* find_isa(const char* name);  // by name; null where this CPU or this build has none
const CpuKernels& cpu_kernels();               // LMAPS_FAST_ISA, else the widest that this CPU has
