// Small helper functions for tensors that several files use.

#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <optional>
#include <vector>

namespace resnet {

// Whether a tensor is a contiguous vector of `channels` floats on `device`. The result is also true for null.
inline bool is_by_channel(const at::Tensor* tensor, int64_t channels, at::Device device) {
  return tensor == nullptr ||
      (tensor->device() == device && tensor->scalar_type() == at::kFloat && tensor->dim() == 1 &&
       tensor->size(0) == channels && tensor->is_contiguous());
}

inline std::optional<at::Tensor> optional(const at::Tensor* tensor) {
  return tensor == nullptr ? std::nullopt : std::optional(*tensor);
}

// The elements of a tensor; null if there is no tensor.
template <class Number>
const Number* data(const std::optional<at::Tensor>& tensor) {
  return tensor.has_value() ? tensor->const_data_ptr<Number>() : nullptr;
}

inline at::Tensor channels_last(const at::Tensor& tensor) {
  return tensor.contiguous(at::MemoryFormat::ChannelsLast);
}

inline std::vector<at::Tensor> list(const at::Tensor* const* tensors, size_t count) {
  std::vector<at::Tensor> result;
  for (size_t i = 0; i < count; ++i) {
    result.push_back(*tensors[i]);
  }
  return result;
}

// Gives a tensor to Rust, which then owns it. An undefined tensor means that there is none, and `out` stays
// null.
inline void give(const at::Tensor& tensor, at::Tensor** out) {
  if (tensor.defined()) {
    *out = new at::Tensor(tensor);
  }
}

}  // namespace resnet
