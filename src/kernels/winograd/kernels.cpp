// Compiled once for each instruction set (build.rs).

#include "kernels.h"
#include "transforms.h"

#include "../simd.h"

#include <algorithm>

namespace resnet::winograd {
namespace {

constexpr int64_t panel = 2 * lanes;
// Two vectors of sums for each row, one vector of products each, and what is left of the 16 or 32
// registers for the vectors that all rows share.
constexpr int rows_at_a_time = lanes == 16 ? 12 : 6;
// Channels that are summed in one go: a panel of so many stays in the first cache.
constexpr int64_t depth_at_a_time = 256;
// Channels ahead of the sums for which weights are fetched.
constexpr int64_t depth_ahead = 48;

// Where a tile lies in its image, in outputs.
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

// Where the `side`² pixels from a place on lie; outside of the image they are zeros.
template <int64_t side>
void pixels(
    const float* images, const Images& size, const Place& place, const float* zeros,
    const float** at) {
  for (int64_t i = 0; i < side; ++i) {
    for (int64_t j = 0; j < side; ++j) {
      const int64_t h = place.top + i, w = place.left + j;
      const bool inside = h >= 0 && h < size.height && w >= 0 && w < size.width;
      const int64_t pixel = (place.image * size.height + h) * size.width + w;
      *at++ = inside ? images + pixel * size.channels : zeros;
    }
  }
}

template <class F>
void weights(
    const float* weight, int64_t inputs, int64_t outputs, bool transposed, int64_t first,
    int64_t last, float* transformed) {
  constexpr int64_t side = F::inputs;
  const int64_t position = apart(ceil_div(outputs, panel) * inputs * panel);
  for (int64_t p = first; p < last; ++p) {
    const int64_t some = std::min(panel, outputs - p * panel);
    for (int64_t input = 0; input < inputs; ++input) {
      float taps[9][panel] = {};
      for (int64_t tap = 0; tap < 9; ++tap) {
        for (int64_t k = 0; k < some; ++k) {
          const int64_t output = p * panel + k;
          taps[tap][k] = transposed ? weight[(input * 9 + 8 - tap) * outputs + output]
                                    : weight[(output * 9 + tap) * inputs + input];
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
        float* to = transformed + (p * inputs + input) * panel + k;
        for (int64_t q = 0; q < side * side; ++q) {
          store(to + q * position, result[q]);
        }
      }
    }
  }
}

// The part of `inputs` and `gradients` that they share: `side`² pixels of each tile from `before` pixels
// before its first output on, and a transform from `side` to F::inputs numbers.
template <class F, int64_t side, int64_t before, void (*transform)(const Vec*, Vec*, int64_t)>
void tiles(
    const float* images, const Images& size, int64_t first, int64_t last, const float* zeros,
    const Order& order, float* transformed) {
  for (int64_t tile = first; tile < last; ++tile) {
    Place corner = place<F>(size, tile);
    corner.top -= before;
    corner.left -= before;
    const float* at[side * side];
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
      float* to = transformed + c / panel * order.panel + (tile - first) * order.row + c % panel;
      for (int64_t q = 0; q < F::inputs * F::inputs; ++q) {
        store(to + q * order.position, result[q]);
      }
    }
  }
}

// c[row][lane] = Σ over depth of a[row][depth] · b[depth][lane], added to what is there if `add`. From one
// row to the next, and from one depth to the next, a has these many numbers.
template <int rows>
inline void block(
    int64_t depth, const float* a, int64_t a_row, int64_t a_depth, const float* b, float* c,
    int64_t c_row, bool add) {
  Vec sums[rows][2];
  for (int row = 0; row < rows; ++row) {
    for (int half = 0; half < 2; ++half) {
      sums[row][half] = add ? load(c + row * c_row + half * lanes) : Vec{};
    }
  }
  for (int64_t d = 0; d < depth; ++d) {
    // With few rows the product is bound by how fast weights come from memory.
    __builtin_prefetch(b + (d + depth_ahead) * panel);
    const Vec left = load(b + d * panel), right = load(b + d * panel + lanes);
#pragma GCC unroll 16
    for (int row = 0; row < rows; ++row) {
      const float value = a[row * a_row + d * a_depth];
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

// A block of as many rows, at most `most`.
template <int most>
void block_of(
    int64_t rows, int64_t depth, const float* a, int64_t a_row, int64_t a_depth, const float* b,
    float* c, int64_t c_row, bool add) {
  if (rows == most) {
    block<most>(depth, a, a_row, a_depth, b, c, c_row, add);
  } else if constexpr (most > 1) {
    block_of<most - 1>(rows, depth, a, a_row, a_depth, b, c, c_row, add);
  }
}

// The same for any number of rows, in blocks as equal as can be: one of few rows would leave the
// processor waiting for its own sums.
void multiply(
    int64_t rows, int64_t depth, const float* a, int64_t a_row, int64_t a_depth, const float* b,
    float* c, int64_t c_row, bool add) {
  const int64_t blocks = ceil_div(rows, rows_at_a_time);
  for (int64_t i = 0, row = 0; i < blocks; ++i) {
    const int64_t some = (rows - row) / (blocks - i);
    block_of<rows_at_a_time>(
        some, depth, a + row * a_row, a_row, a_depth, b, c + row * c_row, c_row, add);
    row += some;
  }
}

void products(
    const float* tiles, const float* weights, int64_t rows, int64_t inputs, int64_t outputs,
    const Order& from, const Order& to, int64_t first, int64_t last, float* products) {
  const int64_t panels = ceil_div(outputs, panel), position = apart(panels * inputs * panel);
  // All panels of a position meet the same channels before the next ones are fetched.
  for (int64_t pair = first; pair < last;) {
    const int64_t q = pair / panels, end = std::min(last, (q + 1) * panels);
    for (int64_t d = 0; d < inputs; d += depth_at_a_time) {
      const int64_t depth = std::min(depth_at_a_time, inputs - d);
      for (int64_t p = pair % panels; p < pair % panels + end - pair; ++p) {
        multiply(
            rows, depth, tiles + q * from.position + d, from.row, 1,
            weights + q * position + (p * inputs + d) * panel,
            products + q * to.position + p * to.panel, to.row, d > 0);
      }
    }
    pair = end;
  }
}

template <class F>
void outputs(
    const float* products, const Order& order, const Images& size, const Epilogue& after,
    int64_t first, int64_t last, float* images) {
  constexpr int64_t side = F::inputs, count = F::outputs;
  for (int64_t tile = first; tile < last; ++tile) {
    const Place corner = place<F>(size, tile);
    const int64_t high = std::min(count, size.height - corner.top);
    const int64_t wide = std::min(count, size.width - corner.left);
    for (int64_t k = 0; k < size.channels; k += lanes) {
      const float* from = products + k / panel * order.panel + (tile - first) * order.row + k % panel;
      Vec columns[count * side];
      for (int64_t j = 0; j < side; ++j) {
        Vec column[side];
        for (int64_t i = 0; i < side; ++i) {
          column[i] = load(from + (i * side + j) * order.position);
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

void weight_products(
    const float* gradients, const Order& gradient_order, const float* inputs,
    const Order& input_order, int64_t rows, int64_t input_count, int64_t output_count, bool add,
    int64_t first, int64_t last, float* products) {
  const int64_t input_panels = ceil_div(input_count, panel);
  const int64_t output_panels = ceil_div(output_count, panel);
  const int64_t row = input_panels * panel, position = apart(output_count * row);
  for (int64_t pair = first; pair < last; ++pair) {
    const int64_t q = pair / output_panels, k = pair % output_panels;
    for (int64_t c = 0; c < input_panels; ++c) {
      multiply(
          std::min(panel, output_count - k * panel), rows,
          gradients + q * gradient_order.position + k * gradient_order.panel, 1,
          gradient_order.row, inputs + q * input_order.position + c * input_order.panel,
          products + q * position + k * panel * row + c * panel, row, add);
    }
  }
}

template <class F>
void weight_gradients(
    const float* products, int64_t inputs, int64_t outputs, int64_t first, int64_t last,
    float* gradient) {
  constexpr int64_t side = F::inputs;
  const int64_t row = ceil_div(inputs, panel) * panel, position = apart(outputs * row);
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

template <class F>
constexpr Kernels table = {
    F::outputs,
    F::inputs * F::inputs,
    panel,
    rows_at_a_time,
    lanes,
    weights<F>,
    tiles<F, F::inputs, 1, F::input>,
    tiles<F, F::outputs, 0, F::gradient>,
    products,
    outputs<F>,
    weight_products,
    weight_gradients<F>,
};

}  // namespace

const Kernels& RESNET_KERNELS(int64_t tile) {
  return tile == 4 ? table<F4<Vec>> : table<F3<Vec>>;
}

}  // namespace resnet::winograd
