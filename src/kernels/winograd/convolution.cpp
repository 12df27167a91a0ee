// Convolutions of 3×3, stride 1 and padding 1 on tensors, with their gradients, by the kernels of this
// folder. What C exports answers an exception with a null pointer, as libtorch.cpp does.

#include "kernels.h"

#include "../../libtorch/tensors.h"
#include "../threads.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <optional>

namespace resnet::winograd {

const Kernels* kernels(int64_t tile, int64_t inputs, int64_t outputs) {
  return fastest(avx512(tile), avx2(tile), {inputs, outputs});
}

namespace {

using at::Tensor;

// Up to as many weights, the transformed ones stay in the second cache while a thread takes its tiles
// through all three steps; beyond, all threads together take one step after the other, so that each weight
// is fetched but once.
constexpr int64_t weights_in_cache = 128 * 128;
// Tiles that a thread takes through all steps at a time: enough to use each weight some times, few
// enough to stay in the second cache.
constexpr int64_t tiles_in_cache = 24;
// Numbers of transformed tiles that all threads share at a time; they stay in the last cache.
constexpr int64_t shared_numbers = int64_t{6} << 20;
// Tiles over which the gradient of a weight is summed in one go: two panels of them fill the first
// cache.
constexpr int64_t most_summed_tiles = 256;

int64_t tiles(const Images& size, int64_t tile) {
  return size.count * ceil_div(size.height, tile) * ceil_div(size.width, tile);
}

Images images(at::IntArrayRef size) {
  return {size[0], size[2], size[3], size[1]};
}

// The kernels that convolve images of `input` [N, I, H, W] with a `weight` [O, I, k, k] in fewer
// operations than the direct way takes; null where there are none. `fixed` is the work of transforming
// the weights in tiles that could be transformed instead.
const Kernels* choose(
    at::IntArrayRef input, at::IntArrayRef weight, int64_t stride, int64_t padding, int64_t fixed) {
  if (input.size() != 4 || weight.size() != 4 || weight[2] != 3 || weight[3] != 3 || stride != 1 ||
      padding != 1 || input[1] != weight[1] || !OpenMp::serves()) {
    return nullptr;
  }
  // With fewer channels the transforms cost more than they save.
  if (weight[0] < 16 || weight[1] < 16) {
    return nullptr;
  }
  const Kernels* best = nullptr;
  // The library is this much nearer to the processor's peak.
  double least = 0.8 * 9 * double(input[0]) * double(input[2]) * double(input[3]);
  for (const int64_t tile : {4, 3}) {
    const Kernels* candidate = kernels(tile, weight[1], weight[0]);
    if (candidate != nullptr) {
      const double cost =
          double(candidate->positions) * double(tiles(images(input), tile) + fixed);
      if (cost < least) {
        least = cost;
        best = candidate;
      }
    }
  }
  return best;
}

// Gradients transform the weights a second time and sum those of the weights.
constexpr int64_t fixed_in_training = 32;
constexpr int64_t fixed_in_inference = 8;

// The weights of a convolution with `inputs` and `outputs`; see Kernels::weights.
Tensor transform_weights(
    const Kernels& kernels, const Tensor& weight, int64_t inputs, int64_t outputs, bool transposed) {
  const int64_t panels = ceil_div(outputs, kernels.panel);
  Tensor transformed =
      at::empty({kernels.positions, apart(panels * inputs * kernels.panel)}, at::kFloat);
  const float* from = weight.const_data_ptr<float>();
  float* to = transformed.mutable_data_ptr<float>();
  in_parallel(panels, [&](int64_t, int64_t first, int64_t last) {
    kernels.weights(from, inputs, outputs, transposed, first, last, to);
  });
  return transformed;
}

// The convolution of `images` with transformed weights, in channels-last order.
Tensor convolve(
    const Kernels& kernels, const Tensor& input, const Tensor& weights, int64_t outputs,
    const Epilogue& after) {
  const Images from = images(input.sizes());
  Images to = from;
  to.channels = outputs;
  Tensor output = at::empty(
      {to.count, to.channels, to.height, to.width},
      input.options().memory_format(at::MemoryFormat::ChannelsLast));
  const float* x = input.const_data_ptr<float>();
  const float* u = weights.const_data_ptr<float>();
  float* y = output.mutable_data_ptr<float>();

  const int64_t panels = ceil_div(outputs, kernels.panel), wide = panels * kernels.panel;
  const int64_t pairs = kernels.positions * panels, count = tiles(from, kernels.tile);
  const bool alone = from.channels * outputs <= weights_in_cache;
  const int64_t fitting = shared_numbers / (kernels.positions * (from.channels + wide));
  const int64_t rows = std::min(
      count, alone ? tiles_in_cache : std::max(fitting, kernels.rows * at::get_num_threads()));
  const Order in = {apart(rows * from.channels), kernels.panel, from.channels};
  const Order out = {apart(rows * wide), kernels.panel, wide};
  const int64_t in_numbers = kernels.positions * in.position;
  const int64_t numbers = in_numbers + kernels.positions * out.position;
  const Tensor zeros = at::zeros({from.channels}, at::kFloat);
  const float* zero = zeros.const_data_ptr<float>();
  Tensor scratch = at::empty({alone ? at::get_num_threads() : 1, numbers}, at::kFloat);
  float* v = scratch.mutable_data_ptr<float>();

  if (alone) {
    in_parallel(count, [&](int64_t thread, int64_t first, int64_t last) {
      float* mine = v + thread * numbers;
      for (int64_t start = first; start < last; start += rows) {
        const int64_t end = std::min(last, start + rows);
        kernels.inputs(x, from, start, end, zero, in, mine);
        kernels.products(
            mine, u, end - start, from.channels, outputs, in, out, 0, pairs, mine + in_numbers);
        kernels.outputs(mine + in_numbers, out, to, after, start, end, y);
      }
    });
    return output;
  }
  for (int64_t start = 0; start < count; start += rows) {
    const int64_t some = std::min(rows, count - start);
    in_parallel(some, [&](int64_t, int64_t first, int64_t last) {
      kernels.inputs(x, from, start + first, start + last, zero, in, v + first * in.row);
    });
    in_parallel(pairs, [&](int64_t, int64_t first, int64_t last) {
      kernels.products(v, u, some, from.channels, outputs, in, out, first, last, v + in_numbers);
    });
    in_parallel(some, [&](int64_t, int64_t first, int64_t last) {
      kernels.outputs(
          v + in_numbers + first * out.row, out, to, after, start + first, start + last, y);
    });
  }
  return output;
}

// The gradient of the weight, from that of what comes out.
Tensor weight_gradient(const Kernels& kernels, const Tensor& gradient, const Tensor& input) {
  const Images from = images(input.sizes()), to = images(gradient.sizes());
  const int64_t count = tiles(from, kernels.tile);
  const int64_t rows = std::min(count, most_summed_tiles);
  const int64_t input_panels = ceil_div(from.channels, kernels.panel);
  const int64_t output_panels = ceil_div(to.channels, kernels.panel);
  const auto order = [&](int64_t panels) {
    return Order{apart(panels * rows * kernels.panel), rows * kernels.panel, kernels.panel};
  };
  const Order in = order(input_panels), out = order(output_panels);
  const Tensor zeros = at::zeros({std::max(from.channels, to.channels)}, at::kFloat);
  Tensor inputs = at::empty({kernels.positions, in.position}, at::kFloat);
  if (from.channels % kernels.panel != 0) {
    // The lanes of the last panel that no channel fills are multiplied too.
    inputs.zero_();
  }
  Tensor gradients = at::empty({kernels.positions, out.position}, at::kFloat);
  const int64_t row = input_panels * kernels.panel;
  Tensor products = at::empty({kernels.positions, apart(to.channels * row)}, at::kFloat);
  Tensor result = at::empty(
      {to.channels, from.channels, 3, 3},
      input.options().memory_format(at::MemoryFormat::ChannelsLast));

  const float* x = input.const_data_ptr<float>();
  const float* g = gradient.const_data_ptr<float>();
  const float* zero = zeros.const_data_ptr<float>();
  float* v = inputs.mutable_data_ptr<float>();
  float* w = gradients.mutable_data_ptr<float>();
  float* m = products.mutable_data_ptr<float>();
  float* dw = result.mutable_data_ptr<float>();
  for (int64_t start = 0; start < count; start += rows) {
    const int64_t some = std::min(rows, count - start);
    in_parallel(some, [&](int64_t, int64_t first, int64_t last) {
      kernels.inputs(x, from, start + first, start + last, zero, in, v + first * in.row);
      kernels.gradients(g, to, start + first, start + last, zero, out, w + first * out.row);
    });
    in_parallel(kernels.positions * output_panels, [&](int64_t, int64_t first, int64_t last) {
      kernels.weight_products(
          w, out, v, in, some, from.channels, to.channels, start > 0, first, last, m);
    });
  }
  in_parallel(to.channels, [&](int64_t, int64_t first, int64_t last) {
    kernels.weight_gradients(m, from.channels, to.channels, first, last, dw);
  });
  return result;
}

class Convolution : public torch::autograd::Function<Convolution> {
 public:
  static Tensor forward(
      torch::autograd::AutogradContext* context, const Tensor& input, const Tensor& weight,
      const std::optional<Tensor>& bias) {
    const Tensor x = channels_last(input), w = channels_last(weight);
    context->save_for_backward({x, w});
    context->saved_data["bias"] = bias.has_value();
    const Kernels& kernels = *choose(x.sizes(), w.sizes(), 1, 1, fixed_in_training);
    const Tensor u = transform_weights(kernels, w, w.size(1), w.size(0), false);
    return convolve(kernels, x, u, w.size(0), {data(bias), nullptr, false});
  }

  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* context, const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &w = saved[1];
    const Tensor gradient = channels_last(gradients[0]);
    const Kernels& kernels = *choose(x.sizes(), w.sizes(), 1, 1, fixed_in_training);
    Tensor of_input, of_weight, of_bias;
    if (context->needs_input_grad(0)) {
      const Tensor u = transform_weights(kernels, w, w.size(0), w.size(1), true);
      of_input = convolve(kernels, gradient, u, w.size(1), {nullptr, nullptr, false});
    }
    if (context->needs_input_grad(1)) {
      of_weight = weight_gradient(kernels, gradient, x);
    }
    if (context->saved_data["bias"].toBool() && context->needs_input_grad(2)) {
      of_bias = gradient.sum({0, 2, 3});
    }
    return {of_input, of_weight, of_bias};
  }
};

}  // namespace
}  // namespace resnet::winograd

extern "C" {

using namespace resnet::winograd;

// A convolution that gradients flow through, with a bias unless that is null; the caller owns the result.
// Null where the direct way is as fast or the only one, and where memory ran out.
void* resnet_winograd_convolution(
    const at::Tensor* input, const at::Tensor* weight, const at::Tensor* bias, int64_t stride,
    int64_t padding) noexcept {
  try {
    if (!resnet::is_float_on_cpu(*input) || !resnet::is_float_on_cpu(*weight) ||
        !resnet::is_by_channel(bias, weight->size(0)) ||
        choose(input->sizes(), weight->sizes(), stride, padding, fixed_in_training) == nullptr) {
      return nullptr;
    }
    return new at::Tensor(Convolution::apply(*input, *weight, resnet::optional(bias)));
  } catch (...) {
    return nullptr;
  }
}

// The transformed weights of a convolution for inference on inputs of a size, in channels-last order; the
// caller owns them. Null as above.
void* resnet_winograd_pack(
    const at::Tensor* weight, int64_t stride, int64_t padding, const int64_t* input_size,
    size_t dimensions) noexcept {
  try {
    const at::IntArrayRef size(input_size, dimensions);
    const Kernels* kernels = choose(size, weight->sizes(), stride, padding, fixed_in_inference);
    if (kernels == nullptr || !resnet::is_float_on_cpu(*weight)) {
      return nullptr;
    }
    const Tensor w = resnet::channels_last(*weight);
    return new at::Tensor(transform_weights(*kernels, w, w.size(1), w.size(0), false));
  } catch (...) {
    return nullptr;
  }
}

// A convolution with such weights and a bias, then the sum with `other` unless that is null, then ReLU if
// asked for; the caller owns the result. Null where the tensors don't fit each other, and where memory ran
// out.
void* resnet_winograd_inference(
    const at::Tensor* input, const at::Tensor* weights, const at::Tensor* bias,
    const at::Tensor* other, bool relu) noexcept {
  try {
    if (!resnet::is_float_on_cpu(*input) || input->dim() != 4 || input->numel() == 0 ||
        !resnet::is_by_channel(bias, bias->numel())) {
      return nullptr;
    }
    const int64_t inputs = input->size(1), outputs = bias->size(0);
    // The number of positions tells the tile.
    const Kernels* kernels =
        resnet::winograd::kernels(weights->size(0) == 36 ? 4 : 3, inputs, outputs);
    if (kernels == nullptr || weights->size(0) != kernels->positions ||
        weights->size(1) !=
            apart(ceil_div(outputs, kernels->panel) * inputs * kernels->panel)) {
      return nullptr;
    }
    std::optional<Tensor> sum;
    if (other != nullptr) {
      if (!resnet::is_float_on_cpu(*other) ||
          other->sizes() !=
              at::IntArrayRef({input->size(0), outputs, input->size(2), input->size(3)})) {
        return nullptr;
      }
      sum = resnet::channels_last(*other);
    }
    const Epilogue after = {resnet::data(*bias), resnet::data(sum), relu};
    const Tensor x = resnet::channels_last(*input);
    return new at::Tensor(convolve(*kernels, x, *weights, outputs, after));
  } catch (...) {
    return nullptr;
  }
}

}  // extern "C"
