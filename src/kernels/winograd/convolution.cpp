// 3×3 convolutions with stride 1 and padding 1 on tensors, with their gradients, by Winograd's minimal
// filtering.

#include "table.h"

#include "../../libtorch/tensors.h"
#include "../convolution/ways.h"
#include "../dispatch.h"
#include "../threads.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <optional>

namespace resnet::winograd {
namespace {

using at::Tensor;
using matrix::ceil_div;
using matrix::padded_stride;

// The kernels of one instruction set.
template <class Number>
struct Kernels {
  const matrix::Kernels<Number>& matrix;
  const Transforms<Number>& transforms;
};

// Up to this number of weights, each thread takes its tiles through all three steps, while the transformed
// weights stay in the L2 cache. With more weights, all threads together do one step after the other, so that
// each weight is read from memory once.
constexpr int64_t weights_in_cache = 128 * 128;
// Number of tiles that a thread takes through all steps at a time. It is large enough to use each weight
// several times, and small enough for the L2 cache.
constexpr int64_t tiles_in_cache = 24;
// Number of elements of transformed tiles that all threads share at a time. They stay in the last-level cache.
constexpr int64_t shared_numbers = int64_t{6} << 20;
// Number of tiles over which the gradient of a weight is summed up at a time. Two panels of them fill the L1
// cache.
constexpr int64_t most_summed_tiles = 256;

int64_t tiles(const Images& size, int64_t tile) {
  return size.count * ceil_div(size.height, tile) * ceil_div(size.width, tile);
}

Images images(at::IntArrayRef size) {
  return {size[0], size[2], size[3], size[1]};
}

// The kernels that convolve images of size `input` [N, I, H, W] with a weight of size `weight` [O, I, k, k] in
// fewer operations than the direct algorithm; none if no kernels need fewer. `fixed` is the cost of
// transforming the weights, as the number of tiles that would cost the same.
template <class Number>
std::optional<Kernels<Number>> choose(
    at::IntArrayRef input, at::IntArrayRef weight, int64_t stride, int64_t padding, int64_t fixed) {
  if (input.size() != 4 || weight.size() != 4 || weight[2] != 3 || weight[3] != 3 || stride != 1 ||
      padding != 1 || input[1] != weight[1] || !OpenMp::serves()) {
    return std::nullopt;
  }
  // With fewer channels, the transforms cost more than they save.
  if (weight[0] < 16 || weight[1] < 16) {
    return std::nullopt;
  }
  return with_instruction_set({weight[0], weight[1]}, [&](auto set) {
    std::optional<Kernels<Number>> best;
    // oneDNN comes closer to the processor's peak speed. The factor 0.8 takes this into account.
    double least = 0.8 * 9 * double(input[0]) * double(input[2]) * double(input[3]);
    for (const int64_t tile : {4, 3}) {
      const Transforms<Number>& candidate = row<decltype(set)::value, Number>(tile);
      const double cost = double(candidate.positions) * double(tiles(images(input), tile) + fixed);
      if (cost < least) {
        least = cost;
        best.emplace(Kernels<Number>{matrix::row<decltype(set)::value, Number>(), candidate});
      }
    }
    return best;
  });
}

// Gradients need two more transforms: one of the weights for the input's gradient, and one of the weight's
// gradient.
constexpr int64_t fixed_in_training = 32;
constexpr int64_t fixed_in_inference = 8;

// The transformed weights of a convolution with `inputs` and `outputs`; see Transforms::weights.
template <class Number>
Tensor transform_weights(
    const Kernels<Number>& kernels, const Tensor& weight, int64_t inputs, int64_t outputs, bool transposed) {
  const int64_t panel = kernels.matrix.panel, panels = ceil_div(outputs, panel);
  Tensor transformed = at::empty(
      {kernels.transforms.positions, padded_stride(panels * inputs * panel)}, dtype_of<Number>);
  const Number* from = weight.const_data_ptr<Number>();
  Number* to = transformed.mutable_data_ptr<Number>();
  in_parallel(panels, [&](int64_t, int64_t first, int64_t last) {
    kernels.transforms.weights(from, inputs, outputs, transposed, first, last, to);
  });
  return transformed;
}

// The convolution of `input` with transformed weights, in channels-last order.
template <class Number>
Tensor convolve_tiles(
    const Kernels<Number>& kernels, const Tensor& input, const Tensor& weights, int64_t outputs,
    const Epilogue<Number>& after) {
  const auto& [matrix, transforms] = kernels;
  const Images from = images(input.sizes());
  Images to = from;
  to.channels = outputs;
  Tensor output = at::empty(
      {to.count, to.channels, to.height, to.width},
      input.options().memory_format(at::MemoryFormat::ChannelsLast));
  const Number* x = input.const_data_ptr<Number>();
  const Number* u = weights.const_data_ptr<Number>();
  Number* y = output.mutable_data_ptr<Number>();

  const int64_t panels = ceil_div(outputs, matrix.panel), wide = panels * matrix.panel;
  const int64_t pairs = transforms.positions * panels, count = tiles(from, transforms.tile);
  const bool alone = from.channels * outputs <= weights_in_cache;
  const int64_t fitting = shared_numbers / (transforms.positions * (from.channels + wide));
  const int64_t rows = std::min(
      count, alone ? tiles_in_cache : std::max(fitting, matrix.rows * at::get_num_threads()));
  const Strides in = {padded_stride(rows * from.channels), matrix.panel, from.channels};
  const Strides out = {padded_stride(rows * wide), matrix.panel, wide};
  const int64_t in_numbers = transforms.positions * in.position;
  const int64_t out_numbers = transforms.positions * out.position;
  const int64_t copies = alone ? at::get_num_threads() : 1;
  const Tensor zeros = at::zeros({from.channels}, dtype_of<Number>);
  const Number* zero = zeros.const_data_ptr<Number>();
  Tensor transformed = at::empty({copies, in_numbers}, dtype_of<Number>);
  Tensor products = at::empty({copies, out_numbers}, at::kFloat);
  Number* v = transformed.mutable_data_ptr<Number>();
  float* m = products.mutable_data_ptr<float>();

  if (alone) {
    in_parallel(count, [&](int64_t thread, int64_t first, int64_t last) {
      Number* const my_v = v + thread * in_numbers;
      float* const my_m = m + thread * out_numbers;
      for (int64_t start = first; start < last; start += rows) {
        const int64_t end = std::min(last, start + rows);
        kernels.transforms.inputs(x, from, start, end, zero, in, my_v);
        kernels.matrix.products(
            my_v, in, u, end - start, from.channels, outputs, out, 0, pairs, my_m);
        kernels.transforms.outputs(my_m, out, to, after, start, end, y);
      }
    });
    return output;
  }
  for (int64_t start = 0; start < count; start += rows) {
    const int64_t some = std::min(rows, count - start);
    in_parallel(some, [&](int64_t, int64_t first, int64_t last) {
      kernels.transforms.inputs(
          x, from, start + first, start + last, zero, in, v + first * in.row);
    });
    in_parallel(pairs, [&](int64_t, int64_t first, int64_t last) {
      kernels.matrix.products(v, in, u, some, from.channels, outputs, out, first, last, m);
    });
    in_parallel(some, [&](int64_t, int64_t first, int64_t last) {
      kernels.transforms.outputs(
          m + first * out.row, out, to, after, start + first, start + last, y);
    });
  }
  return output;
}

// The gradient of the weight, computed from the gradient of the output.
template <class Number>
Tensor weight_gradient(
    const Kernels<Number>& kernels, const Tensor& gradient, const Tensor& input) {
  const auto& [matrix, transforms] = kernels;
  const int64_t panel = matrix.panel, positions = transforms.positions;
  const Images from = images(input.sizes()), to = images(gradient.sizes());
  const int64_t count = tiles(from, transforms.tile);
  const int64_t rows = std::min(count, most_summed_tiles);
  const int64_t input_panels = ceil_div(from.channels, panel);
  const int64_t output_panels = ceil_div(to.channels, panel);
  const auto strides = [&](int64_t panels) {
    return Strides{padded_stride(panels * rows * panel), rows * panel, panel};
  };
  const Strides in = strides(input_panels), out = strides(output_panels);
  const Tensor zeros = at::zeros({std::max(from.channels, to.channels)}, dtype_of<Number>);
  Tensor inputs = at::empty({positions, in.position}, dtype_of<Number>);
  if (from.channels % panel != 0) {
    // The product reads all lanes of the last panel, including lanes without a channel.
    inputs.zero_();
  }
  Tensor gradients = at::empty({positions, out.position}, dtype_of<Number>);
  const int64_t row = input_panels * panel;
  Tensor products = at::empty({positions, padded_stride(to.channels * row)}, at::kFloat);
  Tensor result = at::empty(
      {to.channels, from.channels, 3, 3},
      input.options().memory_format(at::MemoryFormat::ChannelsLast));

  const Number* x = input.const_data_ptr<Number>();
  const Number* g = gradient.const_data_ptr<Number>();
  const Number* zero = zeros.const_data_ptr<Number>();
  Number* v = inputs.mutable_data_ptr<Number>();
  Number* w = gradients.mutable_data_ptr<Number>();
  float* m = products.mutable_data_ptr<float>();
  Number* dw = result.mutable_data_ptr<Number>();
  for (int64_t start = 0; start < count; start += rows) {
    const int64_t some = std::min(rows, count - start);
    in_parallel(some, [&](int64_t, int64_t first, int64_t last) {
      kernels.transforms.inputs(
          x, from, start + first, start + last, zero, in, v + first * in.row);
      kernels.transforms.gradients(
          g, to, start + first, start + last, zero, out, w + first * out.row);
    });
    in_parallel(positions * output_panels, [&](int64_t, int64_t first, int64_t last) {
      kernels.matrix.transposed_products(
          w, out, v, in, some, to.channels, from.channels, start > 0, first, last, m);
    });
  }
  in_parallel(to.channels, [&](int64_t, int64_t first, int64_t last) {
    kernels.transforms.weight_gradients(m, from.channels, to.channels, first, last, dw);
  });
  return result;
}

template <class Number>
class Convolution : public torch::autograd::Function<Convolution<Number>> {
 public:
  static Tensor forward(
      torch::autograd::AutogradContext* context, const Tensor& input, const Tensor& weight,
      const std::optional<Tensor>& bias) {
    const Tensor x = channels_last(input), w = channels_last(weight);
    context->save_for_backward({x, w});
    context->saved_data["bias"] = bias.has_value();
    const Kernels<Number> kernels = chosen(x, w);
    const Tensor u = transform_weights(kernels, w, w.size(1), w.size(0), false);
    return convolve_tiles(kernels, x, u, w.size(0), {data<float>(bias), nullptr, false});
  }

  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* context, const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &w = saved[1];
    const Tensor gradient = channels_last(gradients[0]);
    const Kernels<Number> kernels = chosen(x, w);
    Tensor of_input, of_weight, of_bias;
    if (context->needs_input_grad(0)) {
      const Tensor u = transform_weights(kernels, w, w.size(0), w.size(1), true);
      of_input = convolve_tiles(kernels, gradient, u, w.size(1), {nullptr, nullptr, false});
    }
    if (context->needs_input_grad(1)) {
      of_weight = weight_gradient(kernels, gradient, x);
    }
    if (context->saved_data["bias"].toBool() && context->needs_input_grad(2)) {
      of_bias = gradient.sum({0, 2, 3});
    }
    return {of_input, of_weight, of_bias};
  }

 private:
  // The caller of `apply` has checked that there are kernels for these tensors.
  static Kernels<Number> chosen(const Tensor& x, const Tensor& w) {
    return choose<Number>(x.sizes(), w.sizes(), 1, 1, fixed_in_training).value();
  }
};

template <class Number>
class WinogradPlan final : public Plan {
 public:
  WinogradPlan(const Kernels<Number>& kernels, const Parameters& parameters)
      : kernels_(kernels),
        inputs_(parameters.weight.size(1)),
        outputs_(parameters.weight.size(0)),
        weights_(transform_weights(
            kernels, channels_last(parameters.weight), inputs_, outputs_, false)),
        bias_(*parameters.bias) {
    TORCH_CHECK(is_by_channel(&bias_, outputs_, at::kCPU), "a bias does not fit the convolution");
  }

  Tensor run(const Tensor& input, const std::optional<Tensor>& other, bool relu) const override {
    const auto fits = [](const Tensor& tensor) {
      return tensor.device().is_cpu() && tensor.scalar_type() == dtype_of<Number>;
    };
    TORCH_CHECK(
        fits(input) && input.dim() == 4 && input.numel() > 0 && input.size(1) == inputs_,
        "an input does not fit the convolution");
    std::optional<Tensor> sum;
    if (other.has_value()) {
      TORCH_CHECK(
          fits(*other) &&
              other->sizes() ==
                  at::IntArrayRef({input.size(0), outputs_, input.size(2), input.size(3)}),
          "a tensor to add does not fit the convolution");
      sum = channels_last(*other);
    }
    return convolve_tiles(
        kernels_, channels_last(input), weights_, outputs_,
        {bias_.const_data_ptr<float>(), data<Number>(sum), relu});
  }

 private:
  Kernels<Number> kernels_;
  int64_t inputs_, outputs_;
  Tensor weights_, bias_;
};

}  // namespace

Tensor convolve(const Tensor& input, const Parameters& parameters) {
  const Tensor& weight = parameters.weight;
  const std::optional<Tensor>& bias = parameters.bias;
  if (!input.device().is_cpu() || !weight.device().is_cpu() ||
      input.scalar_type() != weight.scalar_type() ||
      (bias.has_value() && !is_by_channel(&*bias, weight.size(0), at::kCPU))) {
    return {};
  }
  return with_dtype(input.scalar_type(), [&](auto number) -> Tensor {
    using Number = decltype(number);
    if (!choose<Number>(
            input.sizes(), weight.sizes(), parameters.stride, parameters.padding,
            fixed_in_training)) {
      return {};
    }
    return Convolution<Number>::apply(input, weight, bias);
  });
}

std::unique_ptr<Plan> prepare(const Parameters& parameters, at::IntArrayRef size) {
  if (!parameters.weight.device().is_cpu()) {
    return nullptr;
  }
  return with_dtype(
      parameters.weight.scalar_type(), [&](auto number) -> std::unique_ptr<Plan> {
        using Number = decltype(number);
        const auto kernels = choose<Number>(
            size, parameters.weight.sizes(), parameters.stride, parameters.padding,
            fixed_in_inference);
        return kernels ? std::make_unique<WinogradPlan<Number>>(*kernels, parameters) : nullptr;
      });
}

}  // namespace resnet::winograd
