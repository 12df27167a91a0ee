// Tensors of libtorch's meta device have a shape but no memory. Operations on them compute only shapes.

#include "ffi.h"

#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>
#include <ATen/native/ConvUtils.h>
#include <torch/library.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <tuple>

namespace {

// libtorch lacks some operations of a residual network on the meta device, because PyTorch implements them
// in Python. libtorch calls these functions after it has checked the shapes.

at::Tensor meta_convolution(
    const at::Tensor& input,
    const at::Tensor& weight,
    const std::optional<at::Tensor>& /*bias*/,
    at::IntArrayRef stride,
    at::IntArrayRef padding,
    at::IntArrayRef dilation,
    bool transposed,
    at::IntArrayRef /*output_padding*/,
    int64_t /*groups*/) {
  TORCH_CHECK(!transposed, "transposed convolution has no meta implementation");
  const auto size =
      at::native::conv_output_size(input.sizes(), weight.sizes(), padding, stride, dilation);
  return at::Tensor(at::detail::empty_meta(size, input.scalar_type()));
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> meta_batch_norm(
    const at::Tensor& input,
    const std::optional<at::Tensor>& /*weight*/,
    const std::optional<at::Tensor>& /*bias*/,
    const std::optional<at::Tensor>& /*running_mean*/,
    const std::optional<at::Tensor>& /*running_var*/,
    bool training,
    double /*momentum*/,
    double /*eps*/) {
  const auto type = input.scalar_type();
  const int64_t saved = training ? input.size(1) : 0;
  const auto statistics = [&] { return at::Tensor(at::detail::empty_meta({saved}, type)); };
  return {at::Tensor(at::detail::empty_meta(input.sizes(), type)), statistics(), statistics()};
}

at::Tensor meta_relu(const at::Tensor& input) {
  return at::Tensor(at::detail::empty_meta(input.sizes(), input.scalar_type()));
}

at::Tensor& meta_relu_(at::Tensor& input) {
  return input;
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, Meta, library) {
  library.impl("convolution_overrideable", TORCH_FN(meta_convolution));
  library.impl("native_batch_norm", TORCH_FN(meta_batch_norm));
  library.impl("relu", TORCH_FN(meta_relu));
  library.impl("relu_", TORCH_FN(meta_relu_));
}

extern "C" {

// A new float tensor of these dimensions on the meta device; the caller owns it.
const char* resnet_meta(const int64_t* dims, size_t count, at::Tensor** tensor) noexcept {
  return resnet::guard([&] {
    const at::IntArrayRef sizes(dims, count);
    *tensor = new at::Tensor(at::detail::empty_meta(sizes, at::kFloat));
  });
}

}  // extern "C"
