// The optimizer's operations on all tensors at once. tch does not bind them.

#include "ffi.h"
#include "tensors.h"

#include <ATen/ops/_amp_foreach_non_finite_check_and_unscale.h>
#include <ATen/ops/_amp_update_scale.h>
#include <ATen/ops/_foreach_lerp.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/_fused_sgd.h>
#include <ATen/ops/empty_like.h>

#include <optional>
#include <vector>

namespace {

// The gradient in the memory order of its parameter. The fused kernels need both in the same order.
at::Tensor in_order_of(const at::Tensor& parameter, const at::Tensor& gradient) {
  if (gradient.strides() == parameter.strides()) {
    return gradient;
  }
  bool same = true;
  for (int64_t i = 0; i < gradient.dim(); ++i) {
    same = same && (gradient.size(i) == 1 || gradient.stride(i) == parameter.stride(i));
  }
  // The stride of a dimension of one element does not matter, but the kernels compare it.
  return same ? gradient.as_strided(parameter.sizes(), parameter.strides())
              : at::empty_like(parameter).copy_(gradient);
}

// The parameters' gradients, each in the memory order of its parameter.
std::vector<at::Tensor> in_order(
    const std::vector<at::Tensor>& parameters, const at::Tensor* const* gradients) {
  auto found = resnet::list(gradients, parameters.size());
  for (size_t i = 0; i < found.size(); ++i) {
    found[i] = in_order_of(parameters[i], found[i]);
  }
  return found;
}

}  // namespace

extern "C" {

// torch.optim.SGD's update of all parameters. `momenta` is null without momentum. If `found_inf` is not null
// and is 1, nothing changes.
const char* resnet_sgd(
    const at::Tensor* const* parameters, const at::Tensor* const* gradients,
    const at::Tensor* const* momenta, size_t count, const at::Tensor* lr, double momentum,
    double weight_decay, bool nesterov, const at::Tensor* found_inf) noexcept {
  return resnet::guard([&] {
    const auto learned = resnet::list(parameters, count);
    const auto found = in_order(learned, gradients);
    const auto buffers =
        momenta == nullptr ? std::vector<at::Tensor>() : resnet::list(momenta, count);
    at::_fused_sgd_(
        learned, found, buffers, weight_decay, momentum, *lr, 0.0, nesterov, false, false,
        std::nullopt, resnet::optional(found_inf));
  });
}

// torch.optim.AdamW's update of all parameters. `steps` is the number of this update. If `found_inf` is not null and
// is 1, nothing changes.
const char* resnet_adamw(
    const at::Tensor* const* parameters, const at::Tensor* const* gradients,
    const at::Tensor* const* means, const at::Tensor* const* squares, size_t count,
    const at::Tensor* lr, const at::Tensor* steps, double beta1, double beta2,
    double weight_decay, double epsilon, const at::Tensor* found_inf) noexcept {
  return resnet::guard([&] {
    const auto learned = resnet::list(parameters, count);
    at::_fused_adamw_(
        learned, in_order(learned, gradients), resnet::list(means, count),
        resnet::list(squares, count), {}, std::vector<at::Tensor>(count, *steps), *lr, beta1,
        beta2, weight_decay, epsilon, false, false, std::nullopt, resnet::optional(found_inf));
  });
}

// Moves each of `count` tensors towards another one, by `amount` of their difference.
const char* resnet_lerp(
    const at::Tensor* const* tensors, const at::Tensor* const* ends, size_t count,
    double amount) noexcept {
  return resnet::guard([&] {
    at::_foreach_lerp_(resnet::list(tensors, count), resnet::list(ends, count), amount);
  });
}

// Multiplies gradients by `inverse_scale`, and sets `found_inf` to 1 if one of them is not finite.
const char* resnet_unscale(
    const at::Tensor* const* gradients, size_t count, at::Tensor* found_inf,
    const at::Tensor* inverse_scale) noexcept {
  return resnet::guard([&] {
    at::_amp_foreach_non_finite_check_and_unscale_(
        resnet::list(gradients, count), *found_inf, *inverse_scale);
  });
}

// Multiplies `scale` by `backoff` if `found_inf` is 1. Multiplies it by `growth` after `interval` steps in a
// row in which `found_inf` is 0. `steps` counts these steps.
const char* resnet_update_scale(
    at::Tensor* scale, at::Tensor* steps, const at::Tensor* found_inf, double growth,
    double backoff, int64_t interval) noexcept {
  return resnet::guard([&] {
    at::_amp_update_scale_(*scale, *steps, *found_inf, growth, backoff, interval);
  });
}

}  // extern "C"
