// The steps of batch normalisation over some rows of an image in channels-last order, [pixel][channel]:
// each is one pass over memory, and sums of many rows are kept in 64 bits.

#pragma once

#include <cstdint>

namespace resnet::batch_norm {

// What a channel's numbers are multiplied with, and what is added then.
struct Affine {
  const float* scale;
  const float* shift;
};

// Where the gradient of what comes out of ReLU passes through: where `output` is above zero or, unless
// that is given, where the affine map of the input is; everywhere without `relu`.
struct Mask {
  bool relu;
  const float* output;
  Affine affine;
};

struct Kernels {
  // Channels are a multiple of it.
  int64_t multiple;

  // Each channel's mean, and the sum of the squares of what differs from it.
  void (*moments)(
      const float* x, int64_t rows, int64_t channels, float* scratch, double* mean,
      double* squares);

  // y = x · scale + shift + other, then ReLU if asked for; `other` may be null.
  void (*apply)(
      const float* x, const Affine& affine, const float* other, bool relu, int64_t rows,
      int64_t channels, float* y);

  // Each channel's sum of the masked gradient, and of its products with x - mean. Stores the masked
  // gradient unless `masked` is null.
  void (*gradient_sums)(
      const float* gradient, const float* x, const float* mean, const Mask& mask, int64_t rows,
      int64_t channels, float* scratch, float* masked, double* sums, double* products);

  // gradient · factor + x · scale + shift, of the masked gradient.
  void (*input_gradient)(
      const float* gradient, const float* x, const Mask& mask, const float* factor,
      const Affine& affine, int64_t rows, int64_t channels, float* result);
};

// Numbers of scratch for each channel.
constexpr int64_t scratch_numbers = 2;

// Without linkage: a copy that the linker takes from a file compiled for another processor would not run on
// this one.
namespace {

// Takes the mean and the sum of squares around it of `rows` more numbers into those of the `before` that
// came before them (Chan, Golub and LeVeque 1983).
inline void take_in(
    double new_mean, double new_squares, int64_t rows, int64_t before, double& mean,
    double& squares) {
  const double old = static_cast<double>(before), now = static_cast<double>(rows);
  const double difference = new_mean - mean;
  mean += difference * now / (old + now);
  squares += new_squares + difference * difference * old * now / (old + now);
}

}  // namespace

const Kernels& avx2();
const Kernels& avx512();

}  // namespace resnet::batch_norm
