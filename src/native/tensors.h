// What all kernels ask of tensors and of the processor.

#pragma once

#include <ATen/core/Tensor.h>

namespace resnet {

inline bool has_avx512() {
  return __builtin_cpu_supports("avx512f");
}

inline bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
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

inline at::Tensor channels_last(const at::Tensor& tensor) {
  return tensor.contiguous(at::MemoryFormat::ChannelsLast);
}

}  // namespace resnet
