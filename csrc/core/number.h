// bfloat16 and float16 as their bits, to float and back: to the nearest, halves to even; a NaN stays one.
#pragma once
#include <cstring>

#include "config.h"
#ifdef __CUDACC__
#include <cuda_fp16.h>
#endif

namespace LMAPS_NAMESPACE {

struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

LMAPS_FN uint32_t bits_of(float v) {
  uint32_t bits;
  std::memcpy(&bits, &v, 4);
  return bits;
}
LMAPS_FN float float_of(uint32_t bits) {
  float v;
  std::memcpy(&v, &bits, 4);
  return v;
}

LMAPS_FN float to_float(float v) { return v; }
LMAPS_FN float to_float(BFloat16 v) { return float_of(uint32_t(v.bits) << 16); }
LMAPS_FN float to_float(Float16 v) {
#ifdef __CUDA_ARCH__
  return __half2float(__ushort_as_half(v.bits));
#else
  // The product moves the exponent's bias from 15 to 127, subnormals included; infinity and NaN get the top exponent.
  const uint32_t magnitude = uint32_t(v.bits & 0x7fff) << 13, top = magnitude >= 0x0f800000u ? 0x7f800000u : 0u;
  return float_of(bits_of(float_of(magnitude) * 0x1p112f) | top | uint32_t(v.bits & 0x8000) << 16);
#endif
}

LMAPS_FN void from_float(float v, float& to) { to = v; }
LMAPS_FN void from_float(float v, BFloat16& to) {
  const uint32_t bits = bits_of(v), nearest = bits + 0x7fff + (bits >> 16 & 1);
  const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
  to.bits = uint16_t((is_nan ? bits | 0x00400000u : nearest) >> 16);
}
LMAPS_FN void from_float(float v, Float16& to) {
#ifdef __CUDA_ARCH__
  to.bits = __half_as_ushort(__float2half_rn(v));
#else
  const uint32_t bits = bits_of(v), magnitude = bits & 0x7fffffffu;
  const uint32_t normal = (magnitude - (112u << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13;
  // Below 2^-14 the sum with 1/2 rounds to a multiple of 2^-24, which then stands in its lowest bits.
  const uint32_t subnormal = bits_of(float_of(magnitude < 0x38800000u ? magnitude : 0u) + 0.5f) - 0x3f000000u;
  const uint32_t overflow = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;  // NaN; infinity, from 65520 on
  const uint32_t finite = magnitude < 0x38800000u ? subnormal : normal;
  to.bits = uint16_t((magnitude >= 0x477ff000u ? overflow : finite) | (bits >> 16 & 0x8000));
#endif
}

}  // namespace LMAPS_NAMESPACE
