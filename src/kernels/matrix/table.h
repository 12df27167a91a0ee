// Batches of matrix products on plain memory. Winograd's filtering needs one product for each position of a
// transformed tile (../winograd/table.h). im2col needs a single product. `position` is the index in the batch.
//
// Each function works on a range of the batch, so that threads can share the work. The bits of the result do
// not depend on how the range is divided.

#pragma once

#include "../instruction_sets.h"

#include <cstdint>

namespace resnet::matrix {

// Matrices are stored in panels, each of `width` columns (Kernels::panel). Element (r, c) of matrix q lies at
// q · position + (c / width) · panel + r · row + c mod width, where position, panel and row are these strides.
struct Strides {
  int64_t position, panel, row;
};

// Sums are stored as floats for every dtype `Number` of the matrices.
template <class Number>
struct Kernels {
  // `panel` is the number of columns of a panel. `rows` is the number of rows of a product that are computed at
  // a time.
  int64_t panel, rows;

  // left [rows, depth] · right [depth, columns] → products [rows, columns]. `left_strides` must describe panels
  // without gaps, so that a row of `left` is contiguous. `right` is stored as [position][panel][depth][lane],
  // with `padded_stride` numbers from one position to the next. Computes the pairs of a position and a panel of
  // columns [first, last).
  void (*products)(
      const Number* left, const Strides& left_strides, const Number* right, int64_t rows,
      int64_t depth, int64_t columns, const Strides& strides, int64_t first, int64_t last,
      float* products);

  // leftᵀ [left_columns, rows] · right [rows, right_columns] → products [position][left column][right
  // column], added to the old values if `add`. Each row of the products is padded to whole panels, with
  // `padded_stride` numbers from one position to the next. Computes the pairs of a position and a panel of
  // `left` [first, last).
  void (*transposed_products)(
      const Number* left, const Strides& left_strides, const Number* right,
      const Strides& right_strides, int64_t rows, int64_t left_columns, int64_t right_columns,
      bool add, int64_t first, int64_t last, float* products);
};

namespace {

constexpr int64_t ceil_div(int64_t count, int64_t part) {
  return (count + part - 1) / part;
}

// The stride between positions of `count` numbers each. It is not a power of two. Otherwise the same element of
// all positions would compete for one set of the cache.
constexpr int64_t padded_stride(int64_t count) {
  return count + 16;
}

}  // namespace

// The row of the table for an instruction set and a dtype.
template <InstructionSet, class Number>
const Kernels<Number>& row();
template <>
const Kernels<float>& row<InstructionSet::avx2, float>();
template <>
const Kernels<float>& row<InstructionSet::avx512, float>();

}  // namespace resnet::matrix
