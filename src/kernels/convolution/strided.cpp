// 1×1 convolutions that skip pixels, as convolutions of stride 1 on the remaining pixels.
//
// oneDNN gathers those pixels itself, into scratch memory that is too small if the channels do not fill its
// blocks or are divided into several parts, and writes beyond it (docs/decisions/0005). So oneDNN never gets
// such a convolution.

#include "ways.h"

#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

namespace resnet::strided {
namespace {

using at::Tensor;

// A view of the first pixel of each `stride` in both directions.
Tensor remaining_view(const Tensor& images, int64_t stride) {
  return images.slice(2, std::nullopt, std::nullopt, stride)
      .slice(3, std::nullopt, std::nullopt, stride);
}

// The same pixels without gaps, in the memory order of the images.
Tensor gathered(const Tensor& images, int64_t stride) {
  return remaining_view(images, stride).contiguous(images.suggest_memory_format());
}

class Strided : public torch::autograd::Function<Strided> {
 public:
  static Tensor forward(
      torch::autograd::AutogradContext* context, const Tensor& input, const Tensor& weight,
      const std::optional<Tensor>& bias, int64_t stride) {
    // Other layers keep the input too, so that it takes no memory more. Gathering the pixels again is quick.
    context->save_for_backward({input, weight});
    context->saved_data["bias"] = bias.has_value();
    context->saved_data["stride"] = stride;
    return at::convolution(
        gathered(input, stride), weight, bias, {1, 1}, {0, 0}, {1, 1}, false, {0, 0}, 1);
  }

  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* context, const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor &input = saved[0], &weight = saved[1];
    const int64_t stride = context->saved_data["stride"].toInt();
    const bool has_bias = context->saved_data["bias"].toBool();
    auto [of_pixels, of_weight, of_bias] = at::convolution_backward(
        gradients[0], gathered(input, stride), weight, at::IntArrayRef({weight.size(0)}), {1, 1},
        {0, 0}, {1, 1}, false, {0, 0}, 1,
        {context->needs_input_grad(0), context->needs_input_grad(1),
         has_bias && context->needs_input_grad(2)});
    Tensor of_input;
    if (of_pixels.defined()) {
      of_input = at::zeros(
          input.sizes(), input.options().memory_format(input.suggest_memory_format()));
      remaining_view(of_input, stride).copy_(of_pixels);
    }
    return {of_input, of_weight, of_bias, Tensor()};
  }
};

}  // namespace

bool is(const Parameters& parameters) {
  const Tensor& weight = parameters.weight;
  return parameters.stride > 1 && parameters.padding == 0 && weight.dim() == 4 &&
      weight.size(2) == 1 && weight.size(3) == 1;
}

Tensor convolve(const Tensor& input, const Parameters& parameters) {
  return Strided::apply(input, parameters.weight, parameters.bias, parameters.stride);
}

Tensor remaining(const Tensor& input, int64_t stride) {
  return remaining_view(input, stride).permute({0, 2, 3, 1}).contiguous().permute({0, 3, 1, 2});
}

}  // namespace resnet::strided
