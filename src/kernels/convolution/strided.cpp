// Computes 1×1 convolutions that skip pixels as convolutions of stride 1 on the remaining pixels.
//
// oneDNN's own algorithm gathers those pixels into scratch memory. That memory is too small if the channels do
// not fill oneDNN's blocks, or if they are divided into several parts. oneDNN then writes beyond its end
// (docs/decisions/0005). So oneDNN never gets a convolution of this kind.

#include "ways.h"

#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

namespace resnet::strided {
namespace {

using at::Tensor;

// A view of every `stride`-th pixel in both directions, from the first pixel on.
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
    // Other layers keep the input too, so saving it takes no extra memory. Gathering the pixels again is quick.
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
