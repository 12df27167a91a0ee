// This file is compiled once for each instruction set (build.rs).

#include "table.h"

#include "../simd.h"

#include <algorithm>

namespace resnet::batch_norm {
namespace {

// This number of elements is summed up in 32 bits before it is added to the sums in 64 bits. The elements fit
// into the L1 cache.
constexpr int64_t numbers_at_a_time = 4096;

int64_t rows_at_a_time(int64_t channels) {
  return std::max<int64_t>(numbers_at_a_time / channels, 8);
}

template <class Number>
void moments(
    const Number* x, int64_t rows, int64_t channels, float* scratch, double* mean,
    double* squares) {
  float *sums = scratch, *deviations = scratch + channels;
  std::fill_n(mean, channels, 0.0);
  std::fill_n(squares, channels, 0.0);
  for (int64_t row = 0; row < rows;) {
    const int64_t some = std::min(rows_at_a_time(channels), rows - row);
    const Number* from = x + row * channels;
    std::fill_n(scratch, 2 * channels, 0.f);
    for (int64_t i = 0; i < some; ++i) {
      for (int64_t c = 0; c < channels; c += lanes) {
        store(sums + c, load(sums + c) + load(from + i * channels + c));
      }
    }
    const float one_over = 1.f / static_cast<float>(some);
    for (int64_t c = 0; c < channels; ++c) {
      sums[c] *= one_over;
    }
    for (int64_t i = 0; i < some; ++i) {
      for (int64_t c = 0; c < channels; c += lanes) {
        const Vec deviation = load(from + i * channels + c) - load(sums + c);
        store(deviations + c, load(deviations + c) + deviation * deviation);
      }
    }
    for (int64_t c = 0; c < channels; ++c) {
      take_in(sums[c], deviations[c], some, row, mean[c], squares[c]);
    }
    row += some;
  }
}

template <bool has_other, bool has_relu, class Number>
void apply_to(
    const Number* x, const Affine& affine, const Number* other, int64_t rows, int64_t channels,
    Number* y) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t c = 0; c < channels; c += lanes) {
      const int64_t at = row * channels + c;
      Vec result = load(x + at) * load(affine.scale + c) + load(affine.shift + c);
      if (has_other) {
        result += load(other + at);
      }
      store(y + at, has_relu ? relu(result) : result);
    }
  }
}

template <class Number>
void apply(
    const Number* x, const Affine& affine, const Number* other, bool relu, int64_t rows,
    int64_t channels, Number* y) {
  const auto with = other == nullptr
      ? (relu ? apply_to<false, true, Number> : apply_to<false, false, Number>)
      : (relu ? apply_to<true, true, Number> : apply_to<true, false, Number>);
  with(x, affine, other, rows, channels, y);
}

// The tensor that decides where a gradient passes; see Mask.
enum class By { nothing, output, input };

template <class Number>
By kind(const Mask<Number>& mask) {
  return !mask.relu ? By::nothing : mask.output != nullptr ? By::output : By::input;
}

template <By by, class Number>
inline Vec masked_at(
    const Number* gradient, Vec x, const Mask<Number>& mask, int64_t at, int64_t c) {
  const Vec g = load(gradient + at);
  if (by == By::nothing) {
    return g;
  }
  const Vec decides = by == By::output
      ? load(mask.output + at)
      : x * load(mask.affine.scale + c) + load(mask.affine.shift + c);
  return decides <= 0.f ? Vec{} : g;
}

template <By by, class Number>
void gradient_sums_by(
    const Number* gradient, const Number* x, const float* mean, const Mask<Number>& mask,
    int64_t rows, int64_t channels, float* scratch, Number* masked, double* sums,
    double* products) {
  float *some_sums = scratch, *some_products = scratch + channels;
  std::fill_n(sums, channels, 0.0);
  std::fill_n(products, channels, 0.0);
  for (int64_t row = 0; row < rows;) {
    const int64_t end = std::min(row + rows_at_a_time(channels), rows);
    std::fill_n(scratch, 2 * channels, 0.f);
    for (; row < end; ++row) {
      for (int64_t c = 0; c < channels; c += lanes) {
        const int64_t at = row * channels + c;
        const Vec value = load(x + at);
        const Vec g = masked_at<by>(gradient, value, mask, at, c);
        if (masked != nullptr) {
          store(masked + at, g);
        }
        store(some_sums + c, load(some_sums + c) + g);
        store(some_products + c, load(some_products + c) + g * (value - load(mean + c)));
      }
    }
    for (int64_t c = 0; c < channels; ++c) {
      sums[c] += static_cast<double>(some_sums[c]);
      products[c] += static_cast<double>(some_products[c]);
    }
  }
}

template <class Number>
void gradient_sums(
    const Number* gradient, const Number* x, const float* mean, const Mask<Number>& mask,
    int64_t rows, int64_t channels, float* scratch, Number* masked, double* sums,
    double* products) {
  const By by = kind(mask);
  const auto with = by == By::nothing ? gradient_sums_by<By::nothing, Number>
      : by == By::output              ? gradient_sums_by<By::output, Number>
                                      : gradient_sums_by<By::input, Number>;
  with(gradient, x, mean, mask, rows, channels, scratch, masked, sums, products);
}

template <By by, class Number>
void input_gradient_by(
    const Number* gradient, const Number* x, const Mask<Number>& mask, const float* factor,
    const Affine& affine, int64_t rows, int64_t channels, Number* result) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t c = 0; c < channels; c += lanes) {
      const int64_t at = row * channels + c;
      const Vec value = load(x + at);
      const Vec g = masked_at<by>(gradient, value, mask, at, c);
      store(
          result + at,
          g * load(factor + c) + (value * load(affine.scale + c) + load(affine.shift + c)));
    }
  }
}

template <class Number>
void input_gradient(
    const Number* gradient, const Number* x, const Mask<Number>& mask, const float* factor,
    const Affine& affine, int64_t rows, int64_t channels, Number* result) {
  const By by = kind(mask);
  const auto with = by == By::nothing ? input_gradient_by<By::nothing, Number>
      : by == By::output              ? input_gradient_by<By::output, Number>
                                      : input_gradient_by<By::input, Number>;
  with(gradient, x, mask, factor, affine, rows, channels, result);
}

template <class Number>
constexpr Kernels<Number> table = {
    moments<Number>, apply<Number>, gradient_sums<Number>, input_gradient<Number>};

}  // namespace

template <>
const Kernels<float>& row<InstructionSet::RESNET_INSTRUCTION_SET, float>() {
  return table<float>;
}

}  // namespace resnet::batch_norm
