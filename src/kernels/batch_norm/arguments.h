// What batch norm in training is computed from, on a CPU and on a CUDA device.

#pragma once

#include "../../libtorch/tensors.h"

namespace resnet::batch_norm {

// `Arguments` in batch_norm.rs has the same fields. `other` and the running statistics may be null.
struct Arguments {
  const at::Tensor *input, *weight, *bias, *other, *running_mean, *running_variance;
  bool relu;
  double momentum, epsilon;
};

// Whether the tensors fit together, and the images are in channels-last order. With fewer than two rows, there is no
// unbiased variance.
inline bool fit(const Arguments& arguments) {
  const at::Tensor& input = *arguments.input;
  if (input.dim() != 4 || input.numel() == 0 ||
      !input.is_contiguous(at::MemoryFormat::ChannelsLast) || input.numel() / input.size(1) < 2) {
    return false;
  }
  for (const at::Tensor* tensor :
       {arguments.weight, arguments.bias, arguments.running_mean, arguments.running_variance}) {
    if (!is_by_channel(tensor, input.size(1), input.device())) {
      return false;
    }
  }
  const at::Tensor* const other = arguments.other;
  return other == nullptr ||
      (other->device() == input.device() && other->scalar_type() == input.scalar_type() &&
       other->sizes() == input.sizes());
}

// The result of a function of autograd with these arguments.
template <class Function>
at::Tensor apply(const Arguments& arguments) {
  return Function::apply(
      *arguments.input, *arguments.weight, *arguments.bias, optional(arguments.other),
      optional(arguments.running_mean), optional(arguments.running_variance), arguments.relu,
      arguments.momentum, arguments.epsilon);
}

}  // namespace resnet::batch_norm
