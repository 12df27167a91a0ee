// Inference on few pixels, for example in the last stage for one image. It is a matrix product of the pixels
// under the convolution's kernel with the weights. The speed depends on how fast the weights are read from
// memory, so they are stored in the order in which they are used.

#include "ways.h"

#include "../../libtorch/tensors.h"
#include "../dispatch.h"
#include "../matrix/table.h"
#include "../threads.h"

#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

namespace resnet::im2col {
namespace {

using at::Tensor;
using matrix::ceil_div;

// With more pixels, oneDNN is faster.
constexpr int64_t most_pixels = 40;

int64_t output_side(int64_t side, int64_t kernel, int64_t stride, int64_t padding) {
  return (side + 2 * padding - kernel) / stride + 1;
}

// The channels under the kernel for each output pixel, [pixel][tap][channel]. A tap is a place in the kernel.
template <class Number>
Tensor columns(const Tensor& x, int64_t kernel, int64_t stride, int64_t padding) {
  const int64_t count = x.size(0), channels = x.size(1), height = x.size(2), width = x.size(3);
  const int64_t rows = output_side(height, kernel, stride, padding);
  const int64_t columns = output_side(width, kernel, stride, padding);
  Tensor result = at::zeros(
      {count * rows * columns, kernel * kernel * channels}, dtype_of<Number>);
  const Number* from = x.const_data_ptr<Number>();
  Number* to = result.mutable_data_ptr<Number>();
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

template <class Number>
class Im2colPlan final : public Plan {
 public:
  Im2colPlan(const matrix::Kernels<Number>& kernels, const Parameters& parameters)
      : kernels_(kernels),
        bias_(*parameters.bias),
        outputs_(parameters.weight.size(0)),
        inputs_(parameters.weight.size(1)),
        kernel_(parameters.weight.size(2)),
        stride_(parameters.stride),
        padding_(parameters.padding) {
    const Tensor rows = parameters.weight.permute({0, 2, 3, 1}).reshape({outputs_, depth()});
    const Tensor padded = at::constant_pad_nd(rows, {0, 0, 0, panels() * kernels.panel - outputs_});
    weights_ = padded.reshape({panels(), kernels.panel, depth()}).transpose(1, 2).contiguous();
  }

  Tensor run(const Tensor& input, const std::optional<Tensor>& other, bool relu) const override {
    TORCH_CHECK(
        input.device().is_cpu() && input.scalar_type() == dtype_of<Number> && input.dim() == 4 &&
            input.numel() > 0 && input.size(1) == inputs_,
        "an input does not fit the convolution");
    const Tensor x = channels_last(input);
    const Tensor rows = columns<Number>(x, kernel_, stride_, padding_);
    const int64_t pixels = rows.size(0), wide = panels() * kernels_.panel;
    Tensor products = at::empty({pixels, wide}, at::kFloat);
    const Number* from = rows.const_data_ptr<Number>();
    const Number* w = weights_.const_data_ptr<Number>();
    float* to = products.mutable_data_ptr<float>();
    in_parallel(panels(), [&](int64_t, int64_t first, int64_t last) {
      kernels_.products(
          from, {0, kernels_.panel, depth()}, w, pixels, depth(), outputs_,
          {0, kernels_.panel, wide}, first, last, to);
    });
    const int64_t height = output_side(x.size(2), kernel_, stride_, padding_);
    Tensor result = products.narrow(1, 0, outputs_)
                        .add_(bias_)
                        .view({x.size(0), height, pixels / x.size(0) / height, outputs_})
                        .permute({0, 3, 1, 2});
    if (other.has_value()) {
      result.add_(*other);
    }
    return (relu ? result.relu_() : result).to(dtype_of<Number>);
  }

 private:
  int64_t depth() const {
    return kernel_ * kernel_ * inputs_;
  }

  int64_t panels() const {
    return ceil_div(outputs_, kernels_.panel);
  }

  const matrix::Kernels<Number>& kernels_;
  Tensor bias_;
  int64_t outputs_, inputs_, kernel_, stride_, padding_;
  // [panel][tap][input][lane]
  Tensor weights_;
};

}  // namespace

std::unique_ptr<Plan> prepare(const Parameters& parameters, at::IntArrayRef size) {
  const Tensor& weight = parameters.weight;
  const int64_t outputs = weight.size(0), inputs = weight.size(1), kernel = weight.size(2);
  const auto side = [&](int64_t of_input) {
    return output_side(of_input, kernel, parameters.stride, parameters.padding);
  };
  if (!weight.device().is_cpu() || !OpenMp::serves() || size[1] != inputs ||
      size[0] * side(size[2]) * side(size[3]) > most_pixels) {
    return nullptr;
  }
  return with_dtype(weight.scalar_type(), [&](auto number) {
    return with_instruction_set({inputs, outputs}, [&](auto set) -> std::unique_ptr<Plan> {
      using Number = decltype(number);
      return std::make_unique<Im2colPlan<Number>>(
          matrix::row<decltype(set)::value, Number>(), parameters);
    });
  });
}

}  // namespace resnet::im2col
