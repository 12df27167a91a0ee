// Copies of many tensors in another dtype, made together. tch can only convert one tensor at a time.

#include "ffi.h"
#include "tensors.h"

#include <ATen/ops/_foreach_copy.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cstdint>
#include <vector>

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

variable_list copies(at::TensorList tensors, at::ScalarType dtype) {
  variable_list result;
  for (const at::Tensor& tensor : tensors) {
    result.push_back(at::empty_like(tensor, tensor.options().dtype(dtype)));
  }
  at::_foreach_copy_(result, tensors);
  return result;
}

// The gradients of the copies are converted together, too.
class Copies : public torch::autograd::Function<Copies> {
 public:
  static variable_list forward(
      AutogradContext* context, at::TensorList tensors, at::ScalarType dtype) {
    context->saved_data["dtype"] = static_cast<int64_t>(tensors[0].scalar_type());
    return copies(tensors, dtype);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const int64_t dtype = context->saved_data["dtype"].toInt();
    variable_list result = copies(gradients, static_cast<at::ScalarType>(dtype));
    // The dtype has no gradient.
    result.emplace_back();
    return result;
  }
};

}  // namespace

extern "C" {

// Copies of `count` tensors of one dtype in the dtype of `like`. The copies have gradients. `copied` has room for
// `count` tensors.
const char* resnet_copies(
    const at::Tensor* const* tensors, size_t count, const at::Tensor* like,
    at::Tensor** copied) noexcept {
  return resnet::guard([&] {
    const auto originals = resnet::list(tensors, count);
    const auto copies = Copies::apply(at::TensorList(originals), like->scalar_type());
    for (size_t i = 0; i < count; ++i) {
      resnet::give(copies[i], &copied[i]);
    }
  });
}

}  // extern "C"
