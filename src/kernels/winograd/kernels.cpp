// This file is compiled once for each instruction set (build.rs).

#include "table.h"
#include "transforms.h"

#include "../matrix/panel.h"

#include <algorithm>

namespace resnet::winograd {
namespace {

using matrix::ceil_div;
using matrix::padded_stride;
using matrix::panel;

// The position of a tile in its image, in output pixels.
struct Place {
  int64_t image, top, left;
};

template <class F>
Place place(const Images& size, int64_t tile) {
  const int64_t rows = ceil_div(size.height, F::outputs);
  const int64_t columns = ceil_div(size.width, F::outputs);
  return {
      tile / (rows * columns), tile / columns % rows * F::outputs,
      tile % columns * F::outputs};
}

// The addresses of the `side` × `side` pixels that begin at a place. For a pixel outside the image, it is the
// address of zeros.
template <int64_t side, class Number>
void pixels(
    const Number* images, const Images& size, const Place& place, const Number* zeros,
    const Number** at) {
  for (int64_t i = 0; i < side; ++i) {
    for (int64_t j = 0; j < side; ++j) {
      const int64_t h = place.top + i, w = place.left + j;
      const bool inside = h >= 0 && h < size.height && w >= 0 && w < size.width;
      const int64_t pixel = (place.image * size.height + h) * size.width + w;
      *at++ = inside ? images + pixel * size.channels : zeros;
    }
  }
}

template <class F, class Number>
void weights(
    const Number* weight, int64_t inputs, int64_t outputs, bool transposed, int64_t first,
    int64_t last, Number* transformed) {
  constexpr int64_t side = F::inputs;
  const int64_t position = padded_stride(ceil_div(outputs, panel) * inputs * panel);
  for (int64_t p = first; p < last; ++p) {
    const int64_t some = std::min(panel, outputs - p * panel);
    for (int64_t input = 0; input < inputs; ++input) {
      float taps[9][panel] = {};
      for (int64_t tap = 0; tap < 9; ++tap) {
        for (int64_t k = 0; k < some; ++k) {
          const int64_t output = p * panel + k;
          taps[tap][k] = float(
              transposed ? weight[(input * 9 + 8 - tap) * outputs + output]
                         : weight[(output * 9 + tap) * inputs + input]);
        }
      }
      for (int64_t k = 0; k < panel; k += lanes) {
        Vec columns[side * 3], result[side * side];
        for (int64_t j = 0; j < 3; ++j) {
          const Vec column[3] = {load(taps[j] + k), load(taps[3 + j] + k), load(taps[6 + j] + k)};
          F::weight(column, columns + j, 3);
        }
        for (int64_t i = 0; i < side; ++i) {
          F::weight(columns + i * 3, result + i * side, 1);
        }
        Number* to = transformed + (p * inputs + input) * panel + k;
        for (int64_t q = 0; q < side * side; ++q) {
          store(to + q * position, result[q]);
        }
      }
    }
  }
}

// The common part of `inputs` and `gradients`. It transforms the `side` × `side` pixels of each tile. The first
// of these pixels lies `before` pixels before the tile's first output. `transform` computes F::inputs numbers
// from `side` numbers.
template <
    class F, class Number, int64_t side, int64_t before,
    void (*transform)(const Vec*, Vec*, int64_t)>
void tiles(
    const Number* images, const Images& size, int64_t first, int64_t last, const Number* zeros,
    const Strides& strides, Number* transformed) {
  for (int64_t tile = first; tile < last; ++tile) {
    Place corner = place<F>(size, tile);
    corner.top -= before;
    corner.left -= before;
    const Number* at[side * side];
    pixels<side>(images, size, corner, zeros, at);
    for (int64_t c = 0; c < size.channels; c += lanes) {
      Vec columns[F::inputs * side], result[F::inputs * F::inputs];
      for (int64_t j = 0; j < side; ++j) {
        Vec column[side];
        for (int64_t i = 0; i < side; ++i) {
          column[i] = load(at[i * side + j] + c);
        }
        transform(column, columns + j, side);
      }
      for (int64_t i = 0; i < F::inputs; ++i) {
        transform(columns + i * side, result + i * F::inputs, 1);
      }
      Number* to =
          transformed + c / panel * strides.panel + (tile - first) * strides.row + c % panel;
      for (int64_t q = 0; q < F::inputs * F::inputs; ++q) {
        store(to + q * strides.position, result[q]);
      }
    }
  }
}

template <class F, class Number>
void outputs(
    const float* products, const Strides& strides, const Images& size,
    const Epilogue<Number>& after, int64_t first, int64_t last, Number* images) {
  constexpr int64_t side = F::inputs, count = F::outputs;
  for (int64_t tile = first; tile < last; ++tile) {
    const Place corner = place<F>(size, tile);
    const int64_t high = std::min(count, size.height - corner.top);
    const int64_t wide = std::min(count, size.width - corner.left);
    for (int64_t k = 0; k < size.channels; k += lanes) {
      const float* from =
          products + k / panel * strides.panel + (tile - first) * strides.row + k % panel;
      Vec columns[count * side];
      for (int64_t j = 0; j < side; ++j) {
        Vec column[side];
        for (int64_t i = 0; i < side; ++i) {
          column[i] = load(from + (i * side + j) * strides.position);
        }
        F::output(column, columns + j, side);
      }
      for (int64_t i = 0; i < high; ++i) {
        Vec row[count];
        F::output(columns + i * side, row, 1);
        const int64_t h = corner.image * size.height + corner.top + i;
        const int64_t pixel = (h * size.width + corner.left) * size.channels + k;
        for (int64_t j = 0; j < wide; ++j) {
          const int64_t at = pixel + j * size.channels;
          Vec result = row[j];
          if (after.bias != nullptr) {
            result += load(after.bias + k);
          }
          if (after.other != nullptr) {
            result += load(after.other + at);
          }
          if (after.relu) {
            result = relu(result);
          }
          store(images + at, result);
        }
      }
    }
  }
}

template <class F, class Number>
void weight_gradients(
    const float* products, int64_t inputs, int64_t outputs, int64_t first, int64_t last,
    Number* gradient) {
  constexpr int64_t side = F::inputs;
  const int64_t row = ceil_div(inputs, panel) * panel, position = padded_stride(outputs * row);
  for (int64_t k = first; k < last; ++k) {
    for (int64_t c = 0; c < inputs; c += lanes) {
      Vec columns[3 * side], taps[9];
      for (int64_t j = 0; j < side; ++j) {
        Vec column[side];
        for (int64_t i = 0; i < side; ++i) {
          column[i] = load(products + (i * side + j) * position + k * row + c);
        }
        F::weight_gradient(column, columns + j, side);
      }
      for (int64_t i = 0; i < 3; ++i) {
        F::weight_gradient(columns + i * side, taps + i * 3, 1);
      }
      for (int64_t tap = 0; tap < 9; ++tap) {
        store(gradient + (k * 9 + tap) * inputs + c, taps[tap]);
      }
    }
  }
}

template <class F, class Number>
constexpr Transforms<Number> table = {
    F::outputs,
    F::inputs * F::inputs,
    weights<F, Number>,
    tiles<F, Number, F::inputs, 1, F::input>,
    tiles<F, Number, F::outputs, 0, F::gradient>,
    outputs<F, Number>,
    weight_gradients<F, Number>,
};

}  // namespace

template <>
const Transforms<float>& row<InstructionSet::RESNET_INSTRUCTION_SET, float>(int64_t tile) {
  return tile == 4 ? table<F4<Vec>, float> : table<F3<Vec>, float>;
}

}  // namespace resnet::winograd
