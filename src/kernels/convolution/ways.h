// The algorithms that compute a convolution on a CPU. convolution.cpp chooses one of them. They do not support
// transposed or dilated convolutions, and only oneDNN supports groups.

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>

namespace resnet {

// The parameters of a convolution: a weight [O, I / groups, k, k], a bias [O] or none, and stride and padding,
// which are the same in both directions.
struct Parameters {
  at::Tensor weight;
  std::optional<at::Tensor> bias;
  int64_t stride, padding, groups;
};

// A convolution that is prepared for inference. It stores the weight in the order that its algorithm needs.
class Plan {
 public:
  Plan() = default;
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;
  virtual ~Plan() = default;

  // The convolution of `input` [N, I, H, W], plus `other` [N, O, H', W'] if given, then ReLU if `relu`.
  // Throws if the tensors' shapes, dtypes or devices do not fit, or if memory runs out.
  virtual at::Tensor run(
      const at::Tensor& input, const std::optional<at::Tensor>& other, bool relu) const = 0;
};

// A function below returns an undefined tensor or null if it cannot compute these shapes and dtypes, or is not
// faster than the other algorithms. The plans have a bias, and are made for inputs of `size` [N, I, H, W]. They
// accept other N, H and W, but may then be slower.

// Winograd's minimal filtering (docs/decisions/0015).
namespace winograd {

// With gradients.
at::Tensor convolve(const at::Tensor& input, const Parameters& parameters);
std::unique_ptr<Plan> prepare(const Parameters& parameters, at::IntArrayRef size);

}  // namespace winograd

// A matrix product of the pixels under the convolution's kernel with the weights, for few pixels.
namespace im2col {

std::unique_ptr<Plan> prepare(const Parameters& parameters, at::IntArrayRef size);

}  // namespace im2col

// oneDNN. libtorch contains a copy of it.
namespace one_dnn {

// Never null; throws if this libtorch has no oneDNN.
std::unique_ptr<Plan> prepare(const Parameters& parameters, at::IntArrayRef size);

}  // namespace one_dnn

// A 1×1 convolution without padding whose stride skips pixels. It is computed as a convolution of stride 1 on
// the remaining pixels (docs/decisions/0005).
namespace strided {

// Whether a convolution is of this kind.
bool is(const Parameters& parameters);

// With gradients. The result is never undefined.
at::Tensor convolve(const at::Tensor& input, const Parameters& parameters);

// Every `stride`-th pixel of `input` in both directions, from the first pixel on, in channels-last order.
at::Tensor remaining(const at::Tensor& input, int64_t stride);

}  // namespace strided

}  // namespace resnet
