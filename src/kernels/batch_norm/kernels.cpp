// Compiled once for each instruction set (build.rs).

#include "kernels.h"

#include "../simd.h"

#include <algorithm>

namespace resnet::batch_norm {
namespace {

// Numbers that are summed in 32 bits before they go into the sums in 64, and that stay in the first cache
// meanwhile.
constexpr int64_t numbers_at_a_time = 4096;

int64_t rows_at_a_time(int64_t channels) {
  return std::max<int64_t>(numbers_at_a_time / channels, 8);
}

void moments(
    const float* x, int64_t rows, int64_t channels, float* scratch, double* mean,
    double* squares) {
  float *sums = scratch, *deviations = scratch + channels;
  std::fill_n(mean, channels, 0.0);
  std::fill_n(squares, channels, 0.0);
  for (int64_t row = 0; row < rows;) {
    const int64_t some = std::min(rows_at_a_time(channels), rows - row);
    const float* from = x + row * channels;
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

template <bool has_other, bool has_relu>
void apply_to(
    const float* x, const Affine& affine, const float* other, int64_t rows, int64_t channels,
    float* y) {
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

void apply(
    const float* x, const Affine& affine, const float* other, bool relu, int64_t rows,
    int64_t channels, float* y) {
  const auto with = other == nullptr
      ? (relu ? apply_to<false, true> : apply_to<false, false>)
      : (relu ? apply_to<true, true> : apply_to<true, false>);
  with(x, affine, other, rows, channels, y);
}

// What decides where a gradient passes.
enum class By { nothing, output, input };

By kind(const Mask& mask) {
  return !mask.relu ? By::nothing : mask.output != nullptr ? By::output : By::input;
}

template <By by>
inline Vec masked_at(const float* gradient, Vec x, const Mask& mask, int64_t at, int64_t c) {
  const Vec g = load(gradient + at);
  if (by == By::nothing) {
    return g;
  }
  const Vec decides = by == By::output
      ? load(mask.output + at)
      : x * load(mask.affine.scale + c) + load(mask.affine.shift + c);
  return decides <= 0.f ? Vec{} : g;
}

template <By by>
void gradient_sums_by(
    const float* gradient, const float* x, const float* mean, const Mask& mask, int64_t rows,
    int64_t channels, float* scratch, float* masked, double* sums, double* products) {
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

void gradient_sums(
    const float* gradient, const float* x, const float* mean, const Mask& mask, int64_t rows,
    int64_t channels, float* scratch, float* masked, double* sums, double* products) {
  const By by = kind(mask);
  const auto with = by == By::nothing ? gradient_sums_by<By::nothing>
      : by == By::output              ? gradient_sums_by<By::output>
                                      : gradient_sums_by<By::input>;
  with(gradient, x, mean, mask, rows, channels, scratch, masked, sums, products);
}

template <By by>
void input_gradient_by(
    const float* gradient, const float* x, const Mask& mask, const float* factor,
    const Affine& affine, int64_t rows, int64_t channels, float* result) {
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

void input_gradient(
    const float* gradient, const float* x, const Mask& mask, const float* factor,
    const Affine& affine, int64_t rows, int64_t channels, float* result) {
  const By by = kind(mask);
  const auto with = by == By::nothing ? input_gradient_by<By::nothing>
      : by == By::output              ? input_gradient_by<By::output>
                                      : input_gradient_by<By::input>;
  with(gradient, x, mask, factor, affine, rows, channels, result);
}

constexpr Kernels table = {lanes, moments, apply, gradient_sums, input_gradient};

}  // namespace

const Kernels& RESNET_KERNELS() {
  return table;
}

}  // namespace resnet::batch_norm
