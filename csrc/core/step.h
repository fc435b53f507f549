// The fused step around a local MAP: all that lies between two network calls.
#pragma once
#include "normal.h"
#include "number.h"
#include "pointwise.h"

namespace LMAPS_NAMESPACE {

// What the network made of one pixel, and the next x of it.
LMAPS_FN float denoised(const Levels& l, float x, float F) { return l.skip * x + l.out * F; }
LMAPS_FN float next(const Levels& l, float x, float x0, float eps) { return x0 + l.keep * (x - x0) + l.noise * eps; }

}  // namespace LMAPS_NAMESPACE
