// Chooses the algorithm that computes a convolution, and defines the C functions that Rust calls.

#include "ways.h"

#include "../../libtorch/ffi.h"
#include "../../libtorch/tensors.h"

#include <cstddef>
#include <utility>

namespace resnet {
namespace {

// oneDNN's own algorithm for strided 1×1 convolutions writes beyond the end of its memory
// (docs/decisions/0005), so on a CPU oneDNN never computes them.
at::Tensor convolve(const at::Tensor& input, const Parameters& parameters) {
  if (input.device().is_cpu() && strided::is(parameters)) {
    return strided::convolve(input, parameters);
  }
  return winograd::convolve(input, parameters);
}

// A plan for the remaining pixels of a strided 1×1 convolution.
class StridedPlan final : public Plan {
 public:
  StridedPlan(std::unique_ptr<Plan> plan, int64_t stride) : plan_(std::move(plan)), stride_(stride) {}

  at::Tensor run(
      const at::Tensor& input, const std::optional<at::Tensor>& other, bool relu) const override {
    return plan_->run(strided::remaining(input, stride_), other, relu);
  }

 private:
  std::unique_ptr<Plan> plan_;
  int64_t stride_;
};

std::unique_ptr<Plan> prepare(const Parameters& parameters, at::IntArrayRef size) {
  TORCH_CHECK(
      size.size() == 4 && parameters.weight.dim() == 4, "input and weight need four dimensions");
  if (parameters.groups != 1) {
    return one_dnn::prepare(parameters, size);
  }
  if (strided::is(parameters)) {
    const int64_t stride = parameters.stride;
    const auto remaining = [&](int64_t side) { return (side + stride - 1) / stride; };
    const int64_t some[] = {size[0], size[1], remaining(size[2]), remaining(size[3])};
    auto plan = prepare({parameters.weight, parameters.bias, 1, 0, 1}, some);
    return std::make_unique<StridedPlan>(std::move(plan), stride);
  }
  if (auto plan = winograd::prepare(parameters, size)) {
    return plan;
  }
  if (auto plan = im2col::prepare(parameters, size)) {
    return plan;
  }
  return one_dnn::prepare(parameters, size);
}

}  // namespace
}  // namespace resnet

extern "C" {

using resnet::Plan;

// A convolution of one group with gradients, and with a bias unless `bias` is null. `output` stays null if the
// kernels of this program are not faster than libtorch's, or do not support the tensors.
const char* resnet_convolution(
    const at::Tensor* input, const at::Tensor* weight, const at::Tensor* bias, int64_t stride,
    int64_t padding, at::Tensor** output) noexcept {
  return resnet::guard([&] {
    resnet::give(
        resnet::convolve(*input, {*weight, resnet::optional(bias), stride, padding, 1}), output);
  });
}

// Prepares a convolution with a bias for inference on inputs of size `input_size`. The caller owns the plan.
const char* resnet_prepare_convolution(
    const at::Tensor* weight, const at::Tensor* bias, int64_t stride, int64_t padding, int64_t groups,
    const int64_t* input_size, size_t dimensions, Plan** plan) noexcept {
  return resnet::guard([&] {
    *plan = resnet::prepare({*weight, *bias, stride, padding, groups}, {input_size, dimensions})
                .release();
  });
}

// Runs a plan; see Plan::run. `other` may be null.
const char* resnet_run_convolution(
    const Plan* plan, const at::Tensor* input, const at::Tensor* other, bool relu,
    at::Tensor** output) noexcept {
  return resnet::guard(
      [&] { resnet::give(plan->run(*input, resnet::optional(other), relu), output); });
}

void resnet_free_convolution(Plan* plan) noexcept {
  delete plan;
}

}  // extern "C"
