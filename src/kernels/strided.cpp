// Convolutions of 1×1 that skip pixels, as a plain one of the pixels that are left.
//
// oneDNN gathers those pixels itself, into scratch memory that is too small where the channels do not
// fill its blocks, or go through them in several parts (docs/decisions/0005), and writes beyond it. So it
// is never asked to.

#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>

namespace {

using at::Tensor;

// A view of the first pixel of each `stride` in both directions.
Tensor view_every(const Tensor& images, int64_t stride) {
  return images.slice(2, std::nullopt, std::nullopt, stride)
      .slice(3, std::nullopt, std::nullopt, stride);
}

// The same pixels one behind the other, in the order that the images have.
Tensor every(const Tensor& images, int64_t stride) {
  return view_every(images, stride).contiguous(images.suggest_memory_format());
}

class Strided : public torch::autograd::Function<Strided> {
 public:
  static Tensor forward(
      torch::autograd::AutogradContext* context, const Tensor& input, const Tensor& weight,
      const std::optional<Tensor>& bias, int64_t stride) {
    // The input, which others keep too, rather than the pixels: those are soon gathered again.
    context->save_for_backward({input, weight});
    context->saved_data["bias"] = bias.has_value();
    context->saved_data["stride"] = stride;
    return at::convolution(
        every(input, stride), weight, bias, {1, 1}, {0, 0}, {1, 1}, false, {0, 0}, 1);
  }

  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* context, const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor &input = saved[0], &weight = saved[1];
    const int64_t stride = context->saved_data["stride"].toInt();
    const bool has_bias = context->saved_data["bias"].toBool();
    auto [of_pixels, of_weight, of_bias] = at::convolution_backward(
        gradients[0], every(input, stride), weight, at::IntArrayRef({weight.size(0)}), {1, 1},
        {0, 0}, {1, 1}, false, {0, 0}, 1,
        {context->needs_input_grad(0), context->needs_input_grad(1),
         has_bias && context->needs_input_grad(2)});
    Tensor of_input;
    if (of_pixels.defined()) {
      of_input = at::zeros(
          input.sizes(), input.options().memory_format(input.suggest_memory_format()));
      view_every(of_input, stride).copy_(of_pixels);
    }
    return {of_input, of_weight, of_bias, Tensor()};
  }
};

}  // namespace

extern "C" {

// A convolution of 1×1 without padding whose `stride` skips pixels, and that gradients flow through; with a
// bias unless that is null. The caller owns the result. Null where libtorch cannot.
void* resnet_strided_convolution(
    const at::Tensor* input, const at::Tensor* weight, const at::Tensor* bias,
    int64_t stride) noexcept {
  try {
    const auto given = bias == nullptr ? std::nullopt : std::optional(*bias);
    return new Tensor(Strided::apply(*input, *weight, given, stride));
  } catch (...) {
    return nullptr;
  }
}

}  // extern "C"
