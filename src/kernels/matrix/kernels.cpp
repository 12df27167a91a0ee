// This file is compiled once for each instruction set (build.rs).

#include "panel.h"
#include "table.h"

#include <algorithm>

namespace resnet::matrix {
namespace {

// Each row has two vectors of sums. These vectors and the two vectors of `b` that all rows share fill the 16 or
// 32 registers.
constexpr int rows_at_a_time = lanes == 16 ? 12 : 6;
// Depth that is summed up at a time. A panel of this depth stays in the L1 cache.
constexpr int64_t depth_at_a_time = 256;
// The right matrix is prefetched this number of depth positions ahead.
constexpr int64_t depth_ahead = 48;

// c[row][lane] = Σ over depth of a[row][depth] · b[depth][lane]. If `add`, it is added to the old value of c.
// `a_row` and `a_depth` are the strides of a.
template <int rows, class Number>
inline void block(
    int64_t depth, const Number* a, int64_t a_row, int64_t a_depth, const Number* b, float* c,
    int64_t c_row, bool add) {
  Vec sums[rows][2];
  for (int row = 0; row < rows; ++row) {
    for (int half = 0; half < 2; ++half) {
      sums[row][half] = add ? load(c + row * c_row + half * lanes) : Vec{};
    }
  }
  for (int64_t d = 0; d < depth; ++d) {
    // With few rows, the speed of memory limits the product.
    __builtin_prefetch(b + (d + depth_ahead) * panel);
    const Vec left = load(b + d * panel), right = load(b + d * panel + lanes);
#pragma GCC unroll 16
    for (int row = 0; row < rows; ++row) {
      const float value = float(a[row * a_row + d * a_depth]);
      sums[row][0] += value * left;
      sums[row][1] += value * right;
    }
  }
  for (int row = 0; row < rows; ++row) {
    for (int half = 0; half < 2; ++half) {
      store(c + row * c_row + half * lanes, sums[row][half]);
    }
  }
}

// A block of `rows` rows, at most `most`.
template <int most, class Number>
void block_of(
    int64_t rows, int64_t depth, const Number* a, int64_t a_row, int64_t a_depth, const Number* b,
    float* c, int64_t c_row, bool add) {
  if (rows == most) {
    block<most>(depth, a, a_row, a_depth, b, c, c_row, add);
  } else if constexpr (most > 1) {
    block_of<most - 1>(rows, depth, a, a_row, a_depth, b, c, c_row, add);
  }
}

// The same product for any number of rows, in blocks of nearly equal size. In a block with few rows, each
// addition would have to wait for the one before it.
template <class Number>
void multiply(
    int64_t rows, int64_t depth, const Number* a, int64_t a_row, int64_t a_depth, const Number* b,
    float* c, int64_t c_row, bool add) {
  const int64_t blocks = ceil_div(rows, rows_at_a_time);
  for (int64_t i = 0, row = 0; i < blocks; ++i) {
    const int64_t some = (rows - row) / (blocks - i);
    block_of<rows_at_a_time>(
        some, depth, a + row * a_row, a_row, a_depth, b, c + row * c_row, c_row, add);
    row += some;
  }
}

template <class Number>
void products(
    const Number* left, const Strides& left_strides, const Number* right, int64_t rows,
    int64_t depth, int64_t columns, const Strides& strides, int64_t first, int64_t last,
    float* products) {
  const int64_t panels = ceil_div(columns, panel);
  const int64_t right_position = padded_stride(panels * depth * panel);
  // All panels of a position use the same part of the depth before the next part is fetched.
  for (int64_t pair = first; pair < last;) {
    const int64_t q = pair / panels, end = std::min(last, (q + 1) * panels);
    for (int64_t d = 0; d < depth; d += depth_at_a_time) {
      const int64_t some = std::min(depth_at_a_time, depth - d);
      for (int64_t p = pair % panels; p < pair % panels + end - pair; ++p) {
        multiply(
            rows, some, left + q * left_strides.position + d, left_strides.row, 1,
            right + q * right_position + (p * depth + d) * panel,
            products + q * strides.position + p * strides.panel, strides.row, d > 0);
      }
    }
    pair = end;
  }
}

template <class Number>
void transposed_products(
    const Number* left, const Strides& left_strides, const Number* right,
    const Strides& right_strides, int64_t rows, int64_t left_columns, int64_t right_columns,
    bool add, int64_t first, int64_t last, float* products) {
  const int64_t left_panels = ceil_div(left_columns, panel);
  const int64_t right_panels = ceil_div(right_columns, panel);
  const int64_t row = right_panels * panel, position = padded_stride(left_columns * row);
  for (int64_t pair = first; pair < last; ++pair) {
    const int64_t q = pair / left_panels, k = pair % left_panels;
    for (int64_t c = 0; c < right_panels; ++c) {
      multiply(
          std::min(panel, left_columns - k * panel), rows,
          left + q * left_strides.position + k * left_strides.panel, 1, left_strides.row,
          right + q * right_strides.position + c * right_strides.panel,
          products + q * position + k * panel * row + c * panel, row, add);
    }
  }
}

template <class Number>
constexpr Kernels<Number> table = {
    panel, rows_at_a_time, products<Number>, transposed_products<Number>};

}  // namespace

template <>
const Kernels<float>& row<InstructionSet::RESNET_INSTRUCTION_SET, float>() {
  return table<float>;
}

}  // namespace resnet::matrix
