// The transforms of a 3×3 convolution with stride 1 and padding 1 by Winograd's minimal filtering, on plain
// memory. Each transform works on a range, so that threads can share the work. The bits of the result do not
// depend on how the range is divided.
//
// Images are [N][H][W][C], weights [O][3][3][I]. An image is cut into tiles of `tile` × `tile` outputs. A
// transform turns a tile into `positions` numbers for each channel; `positions` is 36 or 25. A position is the
// index of one of those numbers. Between the transforms, each position has its own matrix product. Its rows are
// tiles, and it sums over channels. For the gradient of the weight, it sums over tiles.

#pragma once

#include "../matrix/table.h"

#include <cstdint>

namespace resnet::winograd {

using matrix::Strides;

struct Images {
  int64_t count, height, width, channels;
};

// The operations on an output before it is stored, in this order. Null and false mean that an operation is left
// out.
template <class Number>
struct Epilogue {
  const float* bias;
  const Number* other;
  bool relu;
};

template <class Number>
struct Transforms {
  // `tile` is the number of outputs of a tile in each direction. `positions` is the number of elements of a
  // transformed tile.
  int64_t tile, positions;

  // Transforms the weights of the panels of outputs from `first` to `last` - 1 (G g Gᵀ), and stores them as the
  // argument `right` of matrix::Kernels::products. With `transposed`, it transforms the same `weight` for the convolution that
  // computes the gradient of the input. `inputs` is then the number of the weight's outputs, and `outputs` is
  // the number of its inputs.
  void (*weights)(
      const Number* weight, int64_t inputs, int64_t outputs, bool transposed, int64_t first,
      int64_t last, Number* transformed);

  // Computes Bᵀ d B of the tiles [first, last) of all images, and stores it in the rows from 0 on. `zeros`
  // holds `channels` zeros.
  void (*inputs)(
      const Number* images, const Images& size, int64_t first, int64_t last, const Number* zeros,
      const Strides& strides, Number* transformed);

  // Computes A ∂y Aᵀ in the same way.
  void (*gradients)(
      const Number* images, const Images& size, int64_t first, int64_t last, const Number* zeros,
      const Strides& strides, Number* transformed);

  // Computes Aᵀ m A of the tiles [first, last), which are the rows from 0 on. Applies the epilogue, and stores
  // the result in the images.
  void (*outputs)(
      const float* products, const Strides& strides, const Images& size,
      const Epilogue<Number>& after, int64_t first, int64_t last, Number* images);

  // Computes Gᵀ u G of the outputs [first, last), and stores it in the gradient of the weight.
  void (*weight_gradients)(
      const float* products, int64_t inputs, int64_t outputs, int64_t first, int64_t last,
      Number* gradient);
};

// The row of the table for an instruction set, a dtype and `tile`, which is 3 or 4.
template <InstructionSet, class Number>
const Transforms<Number>& row(int64_t tile);
template <>
const Transforms<float>& row<InstructionSet::avx2, float>(int64_t tile);
template <>
const Transforms<float>& row<InstructionSet::avx512, float>(int64_t tile);

}  // namespace resnet::winograd
