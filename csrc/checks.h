// What each kernel needs of its arguments.
#pragma once
#include "core/arguments.h"

// Whether there is nothing to do.
bool empty(const PointwiseArguments& arguments);
bool empty(const JpegArguments& arguments);
bool empty(const NormalArguments& arguments);
bool empty(const StepArguments& arguments);

// Throws std::invalid_argument where a kernel would read a null address or beyond a table.
void check(const PointwiseArguments& arguments);
void check(const JpegArguments& arguments);
void check(const NormalArguments& arguments);
void check(const StepArguments& arguments);
void check(const JpegCodec& codec);
