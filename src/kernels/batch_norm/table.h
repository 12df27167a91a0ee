// The steps of batch normalisation on plain memory, over some rows of images in channels-last order,
// [pixel][channel]. Each step is one pass over memory. Sums over many rows are stored in 64 bits.

#pragma once

#include "../instruction_sets.h"

#include <cstdint>

namespace resnet::batch_norm {

// An affine map for each channel: x · scale + shift.
struct Affine {
  const float* scale;
  const float* shift;
};

// Decides where a gradient passes the ReLU: where `output` is above zero or, if `output` is null, where the
// affine map of the input is above zero. Without `relu`, it passes everywhere.
template <class Number>
struct Mask {
  bool relu;
  const Number* output;
  Affine affine;
};

template <class Number>
struct Kernels {
  // Each channel's mean, and the sum of the squared deviations from it.
  void (*moments)(
      const Number* x, int64_t rows, int64_t channels, float* scratch, double* mean,
      double* squares);

  // y = x · scale + shift + other, then ReLU if `relu`; `other` may be null.
  void (*apply)(
      const Number* x, const Affine& affine, const Number* other, bool relu, int64_t rows,
      int64_t channels, Number* y);

  // For each channel, the sum of the masked gradient, and the sum of its products with x - mean. Stores the
  // masked gradient unless `masked` is null.
  void (*gradient_sums)(
      const Number* gradient, const Number* x, const float* mean, const Mask<Number>& mask,
      int64_t rows, int64_t channels, float* scratch, Number* masked, double* sums,
      double* products);

  // masked gradient · factor + x · scale + shift.
  void (*input_gradient)(
      const Number* gradient, const Number* x, const Mask<Number>& mask, const float* factor,
      const Affine& affine, int64_t rows, int64_t channels, Number* result);
};

// Floats of scratch memory for each channel.
constexpr int64_t scratch_numbers = 2;

namespace {

// Merges the mean and the sum of squared deviations of `rows` new numbers into the mean and the sum of the
// `before` earlier numbers (Chan, Golub and LeVeque 1983).
inline void take_in(
    double new_mean, double new_squares, int64_t rows, int64_t before, double& mean,
    double& squares) {
  const double old = static_cast<double>(before), now = static_cast<double>(rows);
  const double difference = new_mean - mean;
  mean += difference * now / (old + now);
  squares += new_squares + difference * difference * old * now / (old + now);
}

}  // namespace

// The row of the table for an instruction set and a dtype.
template <InstructionSet, class Number>
const Kernels<Number>& row();
template <>
const Kernels<float>& row<InstructionSet::avx2, float>();
template <>
const Kernels<float>& row<InstructionSet::avx512, float>();

}  // namespace resnet::batch_norm
