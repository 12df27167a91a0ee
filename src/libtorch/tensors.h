// What all kernels ask of tensors and of the processor.

#pragma once

#include <ATen/Version.h>
#include <ATen/core/Tensor.h>

#include <initializer_list>
#include <optional>
#include <string>

namespace resnet {

// The instruction set of libtorch's own kernels, the widest that this machine has unless the environment
// variable ATEN_CPU_CAPABILITY lowers it.
inline bool libtorch_uses(const char* instruction_set) {
  static const std::string used = at::get_cpu_capability();
  return used == instruction_set;
}

// The fastest kernels that libtorch's instruction set allows and whose `multiple` all these counts of
// channels are; null where there are none.
template <class Kernels>
const Kernels* fastest(
    const Kernels& avx512, const Kernels& avx2, std::initializer_list<int64_t> channels) {
  const auto fit = [&](const Kernels& kernels) {
    for (const int64_t count : channels) {
      if (count % kernels.multiple != 0) {
        return false;
      }
    }
    return true;
  };
  if (libtorch_uses("AVX512") && fit(avx512)) {
    return &avx512;
  }
  return (libtorch_uses("AVX512") || libtorch_uses("AVX2")) && fit(avx2) ? &avx2 : nullptr;
}

inline bool is_float_on_cpu(const at::Tensor& tensor) {
  return tensor.device().is_cpu() && tensor.scalar_type() == at::kFloat;
}

// Whether a tensor is a number for each of so many channels, one after the other; so is none at all.
inline bool is_by_channel(const at::Tensor* tensor, int64_t channels) {
  return tensor == nullptr ||
      (is_float_on_cpu(*tensor) && tensor->dim() == 1 && tensor->size(0) == channels &&
       tensor->is_contiguous());
}

inline std::optional<at::Tensor> optional(const at::Tensor* tensor) {
  return tensor == nullptr ? std::nullopt : std::optional(*tensor);
}

// The numbers of a tensor of floats; null for none.
inline const float* data(const std::optional<at::Tensor>& tensor) {
  return tensor.has_value() ? tensor->const_data_ptr<float>() : nullptr;
}

inline at::Tensor channels_last(const at::Tensor& tensor) {
  return tensor.contiguous(at::MemoryFormat::ChannelsLast);
}

}  // namespace resnet
