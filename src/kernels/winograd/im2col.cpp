// Convolutions of few pixels for inference, such as those of the last stage for one image: a matrix product
// of the pixels under the kernel with the weights, which is bound by how fast the weights come from memory.
// They lie in the order in which they are used. What C exports answers an exception with a null pointer.

#include "kernels.h"

#include "../../libtorch/tensors.h"
#include "../threads.h"

#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

namespace resnet::winograd {
namespace {

using at::Tensor;

// With more pixels the library's blocking wins.
constexpr int64_t most_pixels = 40;

// Matrix products don't depend on the tile.
const Kernels* kernels_for(int64_t inputs, int64_t outputs) {
  return kernels(4, inputs, outputs);
}

int64_t output_side(int64_t side, int64_t kernel, int64_t stride, int64_t padding) {
  return (side + 2 * padding - kernel) / stride + 1;
}

// The channels under the kernel for each output pixel, [pixel][tap][channel].
Tensor patches(const Tensor& x, int64_t kernel, int64_t stride, int64_t padding) {
  const int64_t count = x.size(0), channels = x.size(1), height = x.size(2), width = x.size(3);
  const int64_t rows = output_side(height, kernel, stride, padding);
  const int64_t columns = output_side(width, kernel, stride, padding);
  Tensor result = at::zeros({count * rows * columns, kernel * kernel * channels}, at::kFloat);
  const float* from = x.const_data_ptr<float>();
  float* to = result.mutable_data_ptr<float>();
  for (int64_t pixel = 0; pixel < count * rows * columns; ++pixel) {
    const int64_t image = pixel / (rows * columns);
    const int64_t top = pixel / columns % rows * stride - padding;
    const int64_t left = pixel % columns * stride - padding;
    for (int64_t tap = 0; tap < kernel * kernel; ++tap, to += channels) {
      const int64_t h = top + tap / kernel, w = left + tap % kernel;
      if (h >= 0 && h < height && w >= 0 && w < width) {
        std::copy_n(from + ((image * height + h) * width + w) * channels, channels, to);
      }
    }
  }
  return result;
}

}  // namespace
}  // namespace resnet::winograd

extern "C" {

using namespace resnet::winograd;

// The weights of a convolution for inference on inputs of a size, as [panel][tap][input][lane]; the caller
// owns them. Null where this does not pay.
void* resnet_patches_pack(
    const at::Tensor* weight, int64_t stride, int64_t padding, const int64_t* input_size,
    size_t dimensions) noexcept {
  try {
    if (dimensions != 4 || !resnet::is_float_on_cpu(*weight) || !resnet::OpenMp::serves()) {
      return nullptr;
    }
    const int64_t outputs = weight->size(0), inputs = weight->size(1), kernel = weight->size(2);
    const int64_t pixels = input_size[0] * output_side(input_size[2], kernel, stride, padding) *
        output_side(input_size[3], kernel, stride, padding);
    const Kernels* kernels = kernels_for(inputs, outputs);
    if (kernels == nullptr || pixels > most_pixels || input_size[1] != inputs) {
      return nullptr;
    }
    const int64_t panels = ceil_div(outputs, kernels->panel), depth = kernel * kernel * inputs;
    const Tensor rows = weight->permute({0, 2, 3, 1}).reshape({outputs, depth});
    const Tensor padded = at::constant_pad_nd(rows, {0, 0, 0, panels * kernels->panel - outputs});
    return new at::Tensor(
        padded.reshape({panels, kernels->panel, depth}).transpose(1, 2).contiguous());
  } catch (...) {
    return nullptr;
  }
}

// A convolution with such weights and a bias, then the sum with `other` unless that is null, then ReLU if
// asked for; the caller owns the result. Null where the tensors don't fit each other, and where memory ran
// out.
void* resnet_patches_inference(
    const at::Tensor* input, const at::Tensor* weights, const at::Tensor* bias,
    const at::Tensor* other, int64_t kernel, int64_t stride, int64_t padding,
    bool relu) noexcept {
  try {
    if (!resnet::is_float_on_cpu(*input) || input->dim() != 4 || input->numel() == 0) {
      return nullptr;
    }
    const int64_t inputs = input->size(1), outputs = bias->size(0);
    const Kernels* kernels = kernels_for(inputs, outputs);
    const int64_t depth = kernel * kernel * inputs;
    if (kernels == nullptr || weights->size(0) != ceil_div(outputs, kernels->panel) ||
        weights->size(1) != depth || weights->size(2) != kernels->panel) {
      return nullptr;
    }
    const Tensor x = resnet::channels_last(*input);
    const Tensor rows = patches(x, kernel, stride, padding);
    const int64_t pixels = rows.size(0), panels = weights->size(0);
    const int64_t wide = panels * kernels->panel;
    Tensor products = at::empty({pixels, wide}, at::kFloat);
    const float* from = rows.const_data_ptr<float>();
    const float* w = weights->const_data_ptr<float>();
    float* to = products.mutable_data_ptr<float>();
    resnet::in_parallel(panels, [&](int64_t, int64_t first, int64_t last) {
      kernels->products(
          from, w, pixels, depth, outputs, {0, kernels->panel, depth}, {0, kernels->panel, wide},
          first, last, to);
    });
    const int64_t height = output_side(x.size(2), kernel, stride, padding);
    Tensor result = products.narrow(1, 0, outputs)
                        .add_(*bias)
                        .view({x.size(0), height, pixels / x.size(0) / height, outputs})
                        .permute({0, 3, 1, 2});
    if (other != nullptr) {
      result.add_(*other);
    }
    return new at::Tensor(relu ? result.relu_() : result);
  } catch (...) {
    return nullptr;
  }
}

}  // extern "C"
