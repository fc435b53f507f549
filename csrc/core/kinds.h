// The pointwise kernels: name, functor (core/pointwise.h). One more is a functor there and a line here; the loops of
// the CPU, of CUDA, of its emulation and of the fused step, the checks and the names in Python are made of this list.
#pragma once

#define LMAPS_POINTWISE(KIND)             \
  KIND(diagonal_map, DiagonalMap)         \
  KIND(spectral_update, SpectralUpdate)   \
  KIND(clip_map, ClipMap)                 \
  KIND(quantization_map, QuantizationMap) \
  KIND(phase_projection, PhaseProjection) \
  KIND(given, Given)

// jpeg_map, made of each MCU, has loops of its own; the fused step takes it beside the pointwise ones.
enum class Pointwise {
#define LMAPS_KIND(name, Functor) name,
  LMAPS_POINTWISE(LMAPS_KIND)
#undef LMAPS_KIND
      jpeg_map
};
