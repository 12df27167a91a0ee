// Inference by oneDNN. libtorch registers its functions as operators, and declares them in no header.

#include "ways.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>

#include <vector>

namespace resnet::one_dnn {
namespace {

using at::Tensor;

Tensor call(const char* name, const char* overload, torch::jit::Stack stack) {
  c10::Dispatcher::singleton().findSchemaOrThrow(name, overload).callBoxed(stack);
  return stack.at(0).toTensor();
}

std::vector<int64_t> twice(int64_t value) {
  return {value, value};
}

class OneDnnPlan final : public Plan {
 public:
  // The weight is stored in the order that oneDNN prefers for inputs of this size.
  OneDnnPlan(const Parameters& parameters, at::IntArrayRef size)
      : weight_(call(
            "mkldnn::_reorder_convolution_weight", "",
            {parameters.weight, twice(parameters.padding), twice(parameters.stride), twice(1),
             parameters.groups, size.vec()})),
        bias_(parameters.bias),
        stride_(parameters.stride),
        padding_(parameters.padding),
        groups_(parameters.groups) {}

  Tensor run(const Tensor& input, const std::optional<Tensor>& other, bool relu) const override {
    const auto scalars = c10::List<std::optional<at::Scalar>>();
    if (!other.has_value()) {
      const auto after = relu ? "relu" : "none";
      return call(
          "mkldnn::_convolution_pointwise", "",
          {input, weight_, bias_, twice(padding_), twice(stride_), twice(1), groups_, after,
           scalars, c10::IValue()});
    }
    const auto after = relu ? c10::IValue("relu") : c10::IValue();
    return call(
        "mkldnn::_convolution_pointwise", "binary",
        {input, *other, weight_, bias_, twice(padding_), twice(stride_), twice(1), groups_,
         "add", c10::IValue(), after, scalars, c10::IValue()});
  }

 private:
  Tensor weight_;
  std::optional<Tensor> bias_;
  int64_t stride_, padding_, groups_;
};

}  // namespace

std::unique_ptr<Plan> prepare(const Parameters& parameters, at::IntArrayRef size) {
  return std::make_unique<OneDnnPlan>(parameters, size);
}

}  // namespace resnet::one_dnn
