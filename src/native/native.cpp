// The libtorch calls that tch does not bind. Only plain C values cross into Rust, and no exception
// does: each function answers one with a null pointer. The headers are the smallest that will do,
// since torch/torch.h alone takes half a minute to compile.

#include <ATen/EmptyTensor.h>
#include <ATen/Version.h>
#include <ATen/core/Tensor.h>
#include <ATen/native/ConvUtils.h>
#include <torch/headeronly/version.h>
#include <torch/library.h>

#include <dlfcn.h>

#include <string>

namespace {

// Some operations of a residual network are missing on the meta device, since PyTorch has them in
// Python. libtorch calls these after it has checked the shapes.

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

// The version that the program was compiled against, such as "2.11.0".
const char* resnet_libtorch_version() noexcept {
  return TORCH_VERSION;
}

// The file that libtorch's CPU part was loaded from; owned by the loader.
const char* resnet_libtorch_file() noexcept {
  Dl_info info;
  const auto address = reinterpret_cast<const void*>(&at::get_cpu_capability);
  return dladdr(address, &info) != 0 ? info.dli_fname : nullptr;
}

// The instruction set that libtorch's own kernels use on this machine, such as "AVX512".
const char* resnet_cpu_capability() noexcept {
  try {
    static const std::string capability = at::get_cpu_capability();
    return capability.c_str();
  } catch (...) {
    return nullptr;
  }
}

// A new float tensor of these dimensions on the meta device; the caller owns it.
void* resnet_meta(const int64_t* dims, size_t count) noexcept {
  try {
    const at::IntArrayRef sizes(dims, count);
    return new at::Tensor(at::detail::empty_meta(sizes, at::kFloat));
  } catch (...) {
    return nullptr;
  }
}

}  // extern "C"
