// Which MCUs a block of threads of the JPEG kernel has, and where their samples stand.
#pragma once
#include "../core/jpeg.h"

namespace LMAPS_NAMESPACE {

// An MCU's image, corner, and how many of its pixels the image has; none: there is no such MCU.
struct Corner {
  int64_t n, top, left;
  int rows, columns;
};

// Pixel hw of channel c of image n, in an MCU of its block of threads, and its place among the pixels of that block.
struct Pixel {
  int place, mcu, c;
  bool exists;
  int64_t n, hw;
};

struct McuGrid {
  // Every number of blocks that an MCU can have (1, 2, 3, 4, 6) divides 12, so that no thread is idle.
  static constexpr int kBlocks = 12, kThreads = 8 * kBlocks;

  McuShape shape;
  int channels, sub_h, sub_w, mcus;  // mcus: of one block of threads
  int64_t batch, height, width;
  int64_t whole_rows, whole_columns, rows, columns;  // MCUs of an image, without and with those that its border cuts
  int64_t cut_blocks, blocks;  // blocks of threads: those with cut MCUs, which take longest, first

  McuGrid(const JpegCodec& codec, int64_t images, int64_t image_height, int64_t image_width)
      : shape(codec),
        channels(codec.channels),
        sub_h(codec.sub_h),
        sub_w(codec.sub_w),
        mcus(kBlocks / shape.blocks),
        batch(images),
        height(image_height),
        width(image_width),
        whole_rows(height / shape.height),
        whole_columns(width / shape.width),
        rows((height + shape.height - 1) / shape.height),
        columns((width + shape.width - 1) / shape.width) {
    const int64_t whole = whole_rows * whole_columns;
    cut_blocks = (batch * (rows * columns - whole) + mcus - 1) / mcus;
    blocks = cut_blocks + (batch * whole + mcus - 1) / mcus;
  }

  // Whole or cut MCU `index` of the batch. Of the cut ones those of the right border come first.
  LMAPS_FN Corner corner(bool cut, int64_t index) const {
    const int64_t whole = whole_rows * whole_columns, per_image = cut ? rows * columns - whole : whole;
    const int64_t n = index / per_image, k = index % per_image;
    if (n >= batch) return {0, 0, 0, 0, 0};
    const int64_t right = cut && columns > whole_columns ? rows : 0;
    int64_t row = k, column = whole_columns;
    if (!cut)
      row = k / whole_columns, column = k % whole_columns;
    else if (k >= right)
      row = whole_rows, column = k - right;
    const int64_t top = row * shape.height, left = column * shape.width;
    return {n, top, left, int(height - top < shape.height ? height - top : shape.height),
            int(width - left < shape.width ? width - left : shape.width)};
  }

  // f(mcu, corner, row, column) for the samples of chroma (of luma, if grey) that are thread t's.
  template <typename F>
  LMAPS_FN void each_sample(const Corner* corners, int t, F&& f) const {
    LMAPS_ROLLED
    for (int sample = t; sample < 64 * mcus; sample += kThreads)
      if (const Corner& at = corners[sample / 64]; at.rows) f(sample / 64, at, sample % 64 / 8, sample % 8);
  }

  // Pixels of a block's MCUs, in the order of `place`.
  LMAPS_FN int pixels() const { return mcus * channels * shape.height * shape.width; }
  LMAPS_FN Pixel pixel_at(const Corner* corners, int place) const {
    // Sides are 8 or 16, and channels 1 or 3: no division by a variable.
    const int j = place & (shape.width - 1), line = place >> (2 + sub_w);
    const int i = line & (shape.height - 1), plane = line >> (2 + sub_h);
    const int mcu = channels == 3 ? plane / 3 : plane;
    const Corner& at = corners[mcu];
    return {
        place, mcu, plane - mcu * channels, i < at.rows && j < at.columns, at.n, (at.top + i) * width + at.left + j};
  }

  LMAPS_FN int luma(int mcu, int i, int j) const { return mcu * shape.blocks + i / 8 * sub_w + j / 8; }
  LMAPS_FN int chroma(int mcu, int c) const { return mcu * shape.blocks + shape.luma_blocks + c; }
  LMAPS_FN int place(int mcu, int c, int i, int j) const {
    return ((mcu * channels + c) * shape.height + i) * shape.width + j;
  }
};

}  // namespace LMAPS_NAMESPACE
