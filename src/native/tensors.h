// What all kernels ask of tensors and of the processor.

#pragma once

#include <ATen/core/Tensor.h>

#include <initializer_list>
#include <optional>

namespace resnet {

// The fastest kernels that this machine has and whose `multiple` all these counts of channels are; null
// where there are none.
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
  if (__builtin_cpu_supports("avx512f") && fit(avx512)) {
    return &avx512;
  }
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  return has_avx2 && fit(avx2) ? &avx2 : nullptr;
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
