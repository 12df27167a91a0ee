// The transforms of a convolution of 3×3, stride 1 and padding 1 by Winograd's minimal filtering, on plain
// memory. Each works on a range, so that threads can share it. The bits of the result do not depend on how
// the range is divided.
//
// Images are [N][H][W][C], weights [O][3][3][I]. An image is cut into tiles of `tile` × `tile` outputs. A
// transform turns a tile into `positions` numbers for each channel, 36 or 25. A position is the index of one
// of those numbers. Between the transforms each position is a matrix product of its own: its rows are tiles
// and its depth are channels; for the gradient of the weight the depth are tiles.

#pragma once

#include "../matrix/table.h"

#include <cstdint>

namespace resnet::winograd {

using matrix::Strides;

struct Images {
  int64_t count, height, width, channels;
};

// What is done to an output before it is stored, in this order. Null and false for nothing.
template <class Number>
struct Epilogue {
  const float* bias;
  const Number* other;
  bool relu;
};

template <class Number>
struct Transforms {
  // Outputs of a tile in each direction; numbers of a transformed tile.
  int64_t tile, positions;

  // G g Gᵀ of the weights of panels [first, last) of outputs, into the right matrices of
  // matrix::Kernels::products. With `transposed`, the weights of the convolution that gives the gradient of
  // the input, from the same `weight`: `inputs` is then the number of the weight's outputs, and `outputs`
  // that of its inputs.
  void (*weights)(
      const Number* weight, int64_t inputs, int64_t outputs, bool transposed, int64_t first,
      int64_t last, Number* transformed);

  // Bᵀ d B of tiles [first, last) of all images' tiles, into the rows from 0 on. `zeros` holds `channels`
  // zeros.
  void (*inputs)(
      const Number* images, const Images& size, int64_t first, int64_t last, const Number* zeros,
      const Strides& strides, Number* transformed);

  // A ∂y Aᵀ, likewise.
  void (*gradients)(
      const Number* images, const Images& size, int64_t first, int64_t last, const Number* zeros,
      const Strides& strides, Number* transformed);

  // Aᵀ m A of tiles [first, last), which are the rows from 0 on, and the epilogue, into their images.
  void (*outputs)(
      const float* products, const Strides& strides, const Images& size,
      const Epilogue<Number>& after, int64_t first, int64_t last, Number* images);

  // Gᵀ u G of outputs [first, last), into the gradient of the weight.
  void (*weight_gradients)(
      const float* products, int64_t inputs, int64_t outputs, int64_t first, int64_t last,
      Number* gradient);
};

// The table; `tile` is 3 or 4.
template <InstructionSet, class Number>
const Transforms<Number>& row(int64_t tile);
template <>
const Transforms<float>& row<InstructionSet::avx2, float>(int64_t tile);
template <>
const Transforms<float>& row<InstructionSet::avx512, float>(int64_t tile);

}  // namespace resnet::winograd
