// Standard normal numbers as a function of (key, draw, position): Philox4x32-10 (Salmon et al., 2011) and Box-Muller.
// A counter in place of a state, so that any thread of any device can make any number; float32 inside, the same for
// all.
#pragma once
#include <cmath>
#include <cstring>

#include "config.h"

namespace LMAPS_NAMESPACE {

// ln(u) for 0 < u <= 1 to 2 units in the last place or 1e-7: u = 2^e m with m in [sqrt(1/2), sqrt(2)), then the series
// of 2 artanh(r), r = (m - 1) / (m + 1).
LMAPS_FN float natural_log(float u) {
  uint32_t bits;
  std::memcpy(&bits, &u, 4);
  bits += 0x3f800000u - 0x3f3504f3u;
  const float e = float(int32_t(bits >> 23) - 127);
  bits = (bits & 0x007fffffu) + 0x3f3504f3u;
  float m;
  std::memcpy(&m, &bits, 4);
  const float r = (m - 1.0f) / (m + 1.0f), s = r * r;
  const float series = 2.0f + s * (2.0f / 3 + s * (2.0f / 5 + s * (2.0f / 7 + s * (2.0f / 9))));
  return e * 0.693147180559945f + r * series;
}

// sin and cos of pi/2 t for |t| <= 1/2, by their Taylor series; the next terms are below 1e-8.
LMAPS_FN void quarter_turn(float t, float& sine, float& cosine) {
  const float a = 1.57079632679490f * t, s = a * a;
  sine = a * (1.0f + s * (-1.0f / 6 + s * (1.0f / 120 + s * (-1.0f / 5040 + s * (1.0f / 362880)))));
  cosine = 1.0f + s * (-1.0f / 2 + s * (1.0f / 24 + s * (-1.0f / 720 + s * (1.0f / 40320 - s * (1.0f / 3628800)))));
}

// Two normal numbers of two random words: radius sqrt(-2 ln u), angle 2 pi v.
LMAPS_FN void box_muller(uint32_t u, uint32_t v, float& a, float& b) {
  const float radius = std::sqrt(-2.0f * natural_log(float(int32_t(u >> 8) + 1) * 0x1p-24f));
  // Of v the upper two bits are the quadrant and 24 more the place in it.
  float sine, cosine;
  quarter_turn(float(int32_t((v >> 6) & 0xffffffu)) * 0x1p-24f - 0.5f, sine, cosine);
  const bool odd = v >> 31, high = (v >> 30) & 1;
  const float along = odd ? sine : cosine, across = odd ? cosine : sine;
  a = odd != high ? -radius * along : radius * along;
  b = high ? -radius * across : radius * across;
}

// Philox of N counters from `counter` on: word i of counter + j is c[i][j].
template <int N>
LMAPS_FN void philox(uint64_t key, uint32_t draw, uint64_t counter, uint32_t (&c)[4][N]) {
  for (int j = 0; j < N; ++j) {
    c[0][j] = uint32_t(counter + j), c[1][j] = uint32_t((counter + j) >> 32), c[2][j] = draw, c[3][j] = 0;
  }
  uint32_t k0 = uint32_t(key), k1 = uint32_t(key >> 32);
  for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u)
    for (int j = 0; j < N; ++j) {
      const uint64_t p = uint64_t(0xD2511F53u) * c[0][j], q = uint64_t(0xCD9E8D57u) * c[2][j];
      c[0][j] = uint32_t(q >> 32) ^ c[1][j] ^ k0;
      c[2][j] = uint32_t(p >> 32) ^ c[3][j] ^ k1;
      c[1][j] = uint32_t(q);
      c[3][j] = uint32_t(p);
    }
}

// The numbers come in blocks of 256: number 64 i + j of a block is number i of its counter j, so that neighbours are in
// neighbouring lanes.
constexpr int kCounters = 64, kNormals = 4 * kCounters;

// The four numbers of each of N counters: number i of counter + j is out[N i + j].
template <int N>
LMAPS_FN void normals(uint64_t key, uint32_t draw, uint64_t counter, float (&out)[4 * N]) {
  uint32_t c[4][N];
  philox(key, draw, counter, c);
  for (int i = 0; i < 4; i += 2)
    for (int j = 0; j < N; ++j) box_muller(c[i][j], c[i + 1][j], out[i * N + j], out[(i + 1) * N + j]);
}

// The number at one position alone.
LMAPS_FN float normal_at(uint64_t key, uint32_t draw, uint64_t position) {
  uint32_t c[4][1];
  philox(key, draw, position / kNormals * kCounters + position % kCounters, c);
  const int i = int(position % kNormals / kCounters);
  float a, b;
  box_muller(i < 2 ? c[0][0] : c[2][0], i < 2 ? c[1][0] : c[3][0], a, b);
  return i % 2 ? b : a;
}

}  // namespace LMAPS_NAMESPACE
