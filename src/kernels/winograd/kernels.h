// The steps of a convolution of 3×3, stride 1 and padding 1 by Winograd's minimal filtering, on plain
// memory. Each works on a range, so that threads can share it, and gives the same bits however the
// range is shared out.
//
// Images are [N][H][W][C], weights [O][3][3][I]. An image is cut into tiles of `tile`² outputs, and a
// transformed tile has `positions` numbers for each channel. Between the transforms each position is a
// matrix product of its own, over the channels, or over the tiles for the gradient of the weight.

#pragma once

#include <cstdint>

namespace resnet::winograd {

struct Images {
  int64_t count, height, width, channels;
};

// What happens to an output before it is stored, in this order; null and false for nothing.
struct Epilogue {
  const float* bias;
  const float* other;
  bool relu;
};

// Where the numbers of transformed tiles lie: that of channel c of the tile in row r at
// position · `position` + (c / panel) · `panel` + r · `row` + c mod panel.
struct Order {
  int64_t position, panel, row;
};

struct Kernels {
  // Outputs of a tile in each direction; numbers of a transformed tile; channels of a panel, the unit in
  // which matrices are laid out; rows of a matrix product that are computed at a time; the number that
  // channels must be a multiple of.
  int64_t tile, positions, panel, rows, multiple;

  // G g Gᵀ of the weights of panels [first, last) of outputs, into [position][panel][input][lane]. With
  // `transposed`, that of the convolution which gives the gradient of the input, from the same `weight`:
  // `inputs` are then its inputs, the weight's outputs.
  void (*weights)(
      const float* weight, int64_t inputs, int64_t outputs, bool transposed, int64_t first,
      int64_t last, float* transformed);

  // Bᵀ d B of tiles [first, last) of all images' tiles, into rows from 0; `zeros` holds `channels`.
  void (*inputs)(
      const float* images, const Images& size, int64_t first, int64_t last, const float* zeros,
      const Order& order, float* transformed);

  // A ∂y Aᵀ, likewise.
  void (*gradients)(
      const float* images, const Images& size, int64_t first, int64_t last, const float* zeros,
      const Order& order, float* transformed);

  // The products of `rows` transformed tiles, in order {position, panel, inputs}, with the weights; pairs
  // of a position and a panel of outputs [first, last), into order {position, panel, outputs}.
  void (*products)(
      const float* tiles, const float* weights, int64_t rows, int64_t inputs, int64_t outputs,
      const Order& from, const Order& to, int64_t first, int64_t last, float* products);

  // Aᵀ m A of tiles [first, last) in rows from 0, and the epilogue, into their images.
  void (*outputs)(
      const float* products, const Order& order, const Images& size, const Epilogue& after,
      int64_t first, int64_t last, float* images);

  // The products of `rows` transformed tiles of gradients and of inputs over the tiles; pairs of a
  // position and a panel of outputs [first, last), into [position][output][input], added to what is there
  // if `add`.
  void (*weight_products)(
      const float* gradients, const Order& gradient_order, const float* inputs,
      const Order& input_order, int64_t rows, int64_t input_count, int64_t output_count, bool add,
      int64_t first, int64_t last, float* products);

  // Gᵀ u G of outputs [first, last), into the gradient of the weight.
  void (*weight_gradients)(
      const float* products, int64_t inputs, int64_t outputs, int64_t first, int64_t last,
      float* gradient);
};

// These have no linkage: a copy that the linker takes from a file compiled for another processor would
// not run on this one.
namespace {

// Numbers from one position to the next where each has `count`: not a power of two, in which all
// positions would share the same sets of the cache.
inline int64_t apart(int64_t count) {
  return count + 16;
}

inline int64_t ceil_div(int64_t count, int64_t part) {
  return (count + part - 1) / part;
}

}  // namespace

// For tiles of `tile` outputs, 3 or 4; by instruction set.
const Kernels& avx2(int64_t tile);
const Kernels& avx512(int64_t tile);

// Those of this machine that fit so many channels; null where none do.
const Kernels* kernels(int64_t tile, int64_t inputs, int64_t outputs);

}  // namespace resnet::winograd
