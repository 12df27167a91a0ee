// The optimizer's operations on all tensors at once, which tch does not bind. No exception crosses into
// Rust: false says that libtorch refused.

#include "tensors.h"

#include <ATen/ops/_amp_foreach_non_finite_check_and_unscale.h>
#include <ATen/ops/_amp_update_scale.h>
#include <ATen/ops/_fused_sgd.h>
#include <ATen/ops/empty_like.h>

#include <optional>
#include <vector>

namespace {

std::vector<at::Tensor> list(const at::Tensor* const* tensors, size_t count) {
  std::vector<at::Tensor> result;
  for (size_t i = 0; i < count; ++i) {
    result.push_back(*tensors[i]);
  }
  return result;
}

// A gradient in its parameter's order in memory, which the fused kernels rely on.
at::Tensor in_order_of(const at::Tensor& parameter, const at::Tensor& gradient) {
  if (gradient.strides() == parameter.strides()) {
    return gradient;
  }
  bool same = true;
  for (int64_t i = 0; i < gradient.dim(); ++i) {
    same = same && (gradient.size(i) == 1 || gradient.stride(i) == parameter.stride(i));
  }
  // Along a dimension of one element any stride is the same order; the kernels compare the numbers.
  return same ? gradient.as_strided(parameter.sizes(), parameter.strides())
              : at::empty_like(parameter).copy_(gradient);
}

}  // namespace

extern "C" {

// torch.optim.SGD's update of all parameters; `momenta` is null without momentum. Nothing changes where
// `found_inf`, unless null, holds 1.
bool resnet_sgd(
    const at::Tensor* const* parameters, const at::Tensor* const* gradients,
    const at::Tensor* const* momenta, size_t count, const at::Tensor* rate, double momentum,
    double weight_decay, bool nesterov, const at::Tensor* found_inf) noexcept {
  try {
    const auto learned = list(parameters, count);
    auto found = list(gradients, count);
    for (size_t i = 0; i < count; ++i) {
      found[i] = in_order_of(learned[i], found[i]);
    }
    const auto buffers =
        momenta == nullptr ? std::vector<at::Tensor>() : list(momenta, count);
    at::_fused_sgd_(
        learned, found, buffers, weight_decay, momentum, *rate, 0.0, nesterov, false, false,
        std::nullopt, resnet::optional(found_inf));
    return true;
  } catch (...) {
    return false;
  }
}

// Multiplies gradients with `inverse_scale`, and sets `found_inf` to 1 if one of them is not finite.
bool resnet_unscale(
    const at::Tensor* const* gradients, size_t count, at::Tensor* found_inf,
    const at::Tensor* inverse_scale) noexcept {
  try {
    at::_amp_foreach_non_finite_check_and_unscale_(
        list(gradients, count), *found_inf, *inverse_scale);
    return true;
  } catch (...) {
    return false;
  }
}

// Lowers `scale` by `backoff` where `found_inf` holds 1, and raises it by `growth` after `interval` steps
// without, which `steps` counts.
bool resnet_update_scale(
    at::Tensor* scale, at::Tensor* steps, const at::Tensor* found_inf, double growth,
    double backoff, int64_t interval) noexcept {
  try {
    at::_amp_update_scale_(*scale, *steps, *found_inf, growth, backoff, interval);
    return true;
  } catch (...) {
    return false;
  }
}

}  // extern "C"
