// The libtorch calls that tch does not bind. Only plain C values cross into Rust, and no exception
// does: each function answers one with a null pointer. The headers are the smallest that will do,
// since torch/torch.h alone takes half a minute to compile.

#include <ATen/Context.h>
#include <ATen/EmptyTensor.h>
#include <ATen/Version.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>
#include <ATen/native/ConvUtils.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <torch/headeronly/version.h>
#include <torch/library.h>

#include <dlfcn.h>

#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

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

// Calls an operator that libtorch registers and declares in no header.
at::Tensor call(const char* name, const char* overload, torch::jit::Stack stack) {
  c10::Dispatcher::singleton().findSchemaOrThrow(name, overload).callBoxed(stack);
  return stack.at(0).toTensor();
}

std::vector<int64_t> twice(int64_t value) {
  return {value, value};
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

// Whether CUDA devices may round the products of 32-bit floats to TF32.
void resnet_allow_tf32(bool allow) noexcept {
  try {
    at::globalContext().setAllowTF32CuDNN(allow);
    at::globalContext().setAllowTF32CuBLAS(allow);
  } catch (...) {
  }
}

// Whether CUDA devices compute with algorithms that give the same bits each time, or with those that are
// the fastest at the first use of a shape.
void resnet_set_deterministic(bool deterministic) noexcept {
  try {
    if (deterministic) {
      // cuBLAS must be told before its first product; what the user chose stays.
      setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", 0);
    }
    auto& context = at::globalContext();
    // An operation that has no such algorithm fails rather than differ.
    context.setDeterministicAlgorithms(deterministic, false);
    // No operation here reads what it has not written.
    context.setDeterministicFillUninitializedMemory(false);
    context.setDeterministicCuDNN(deterministic);
    context.setBenchmarkCuDNN(!deterministic);
  } catch (...) {
  }
}

// The most bytes that libtorch has taken of a CUDA device's memory so far; 0 where it does not tell.
uint64_t resnet_peak_cuda_memory(int8_t index) noexcept {
  try {
    const auto stats = c10::getDeviceAllocator(c10::DeviceType::CUDA)->getDeviceStats(index);
    const auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    return stats.reserved_bytes[all].peak;
  } catch (...) {
    return 0;
  }
}

// The weight of a convolution in the order in which oneDNN wants it, for inputs of a size; the caller
// owns it. Null where this libtorch has no oneDNN.
void* resnet_pack_weight(
    const at::Tensor* weight,
    int64_t stride,
    int64_t padding,
    const int64_t* input_size,
    size_t dimensions) noexcept {
  try {
    return new at::Tensor(
        call("mkldnn::_reorder_convolution_weight", "",
             {*weight, twice(padding), twice(stride), twice(1), int64_t{1},
              std::vector<int64_t>(input_size, input_size + dimensions)}));
  } catch (...) {
    return nullptr;
  }
}

// A convolution with a packed weight, then the sum with `other` unless that is null, then ReLU if
// asked for, in one pass over memory; the caller owns the result. Null where oneDNN fails.
void* resnet_fused_convolution(
    const at::Tensor* input,
    const at::Tensor* weight,
    const at::Tensor* bias,
    const at::Tensor* other,
    int64_t stride,
    int64_t padding,
    bool relu) noexcept {
  try {
    const auto scalars = c10::List<std::optional<at::Scalar>>();
    const auto after = relu ? "relu" : "none";
    if (other == nullptr) {
      return new at::Tensor(
          call("mkldnn::_convolution_pointwise", "",
               {*input, *weight, *bias, twice(padding), twice(stride), twice(1), int64_t{1}, after,
                scalars, c10::IValue()}));
    }
    const auto unary = relu ? c10::IValue("relu") : c10::IValue();
    return new at::Tensor(
        call("mkldnn::_convolution_pointwise", "binary",
             {*input, *other, *weight, *bias, twice(padding), twice(stride), twice(1), int64_t{1},
              "add", c10::IValue(), unary, scalars, c10::IValue()}));
  } catch (...) {
    return nullptr;
  }
}

}  // extern "C"
