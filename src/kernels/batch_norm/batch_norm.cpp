// Batch normalisation in training and its gradients. The sum and the ReLU after it are computed in the same
// passes over memory (docs/decisions/0016).

#include "arguments.h"
#include "table.h"

#include "../../libtorch/ffi.h"
#include "../../libtorch/tensors.h"
#include "../dispatch.h"
#include "../threads.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

namespace resnet::batch_norm {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Rows are divided into parts, and one thread sums up each part. There are at most `most_parts` parts. If there
// are several parts, each has at least `rows_of_a_part` rows.
constexpr int64_t most_parts = 64;
constexpr int64_t rows_of_a_part = 256;

// The kernels for this number of channels; null if there are none.
template <class Number>
const Kernels<Number>* kernels_for(int64_t channels) {
  return with_instruction_set({channels}, [](auto set) -> const Kernels<Number>* {
    return &row<decltype(set)::value, Number>();
  });
}

// Rows and channels of images [N, C, H, W]; a row is a pixel. The division into parts depends only on the
// shape, so the bits of the sums do not depend on the number of threads.
struct Size {
  int64_t rows, channels, parts;

  explicit Size(const Tensor& x)
      : rows(x.numel() / x.size(1)),
        channels(x.size(1)),
        parts(std::clamp<int64_t>(rows / rows_of_a_part, 1, most_parts)) {}

  int64_t first_row(int64_t part) const {
    return rows * part / parts;
  }
};

// Calls sum(first row, rows, scratch, sums, other sums) for each part. Each part has its own two arrays of
// `channels` sums.
template <class Sum>
void sum_parts(const Size& size, std::vector<double>& sums, const Sum& sum) {
  sums.resize(2 * size.parts * size.channels);
  std::vector<float> scratch(size.parts * scratch_numbers * size.channels);
  in_parallel(size.parts, [&](int64_t, int64_t first, int64_t last) {
    for (int64_t part = first; part < last; ++part) {
      const int64_t start = size.first_row(part);
      double* at = sums.data() + 2 * part * size.channels;
      float* numbers = scratch.data() + part * scratch_numbers * size.channels;
      sum(start, size.first_row(part + 1) - start, numbers, at, at + size.channels);
    }
  });
}

struct Moments {
  std::vector<double> mean, variance;
};

template <class Number>
Moments moments(const Kernels<Number>& kernels, const Tensor& x) {
  const Size size(x);
  const Number* from = x.const_data_ptr<Number>();
  std::vector<double> sums;
  sum_parts(size, sums, [&](int64_t at, int64_t rows, float* scratch, double* mean, double* squares) {
    kernels.moments(from + at * size.channels, rows, size.channels, scratch, mean, squares);
  });
  Moments all{std::vector<double>(size.channels), std::vector<double>(size.channels)};
  for (int64_t part = 0; part < size.parts; ++part) {
    const double* mean = sums.data() + 2 * part * size.channels;
    const double* squares = mean + size.channels;
    const int64_t before = size.first_row(part), rows = size.first_row(part + 1) - before;
    for (int64_t c = 0; c < size.channels; ++c) {
      take_in(mean[c], squares[c], rows, before, all.mean[c], all.variance[c]);
    }
  }
  for (double& variance : all.variance) {
    variance /= double(size.rows);
  }
  return all;
}

// The affine map of batch norm for given moments.
struct Map {
  std::vector<float> scale, shift;

  // `deviation` is one over the standard deviation.
  Map(const float* weight, const float* bias, const float* mean, const float* deviation,
      int64_t channels) {
    for (int64_t c = 0; c < channels; ++c) {
      scale.push_back(weight[c] * deviation[c]);
      shift.push_back(bias[c] - mean[c] * scale.back());
    }
  }

  Affine affine() const {
    return {scale.data(), shift.data()};
  }
};

// A tensor with one float for each channel.
template <class Value>
Tensor by_channel(int64_t channels, const Value& value) {
  Tensor tensor = at::empty({channels}, at::kFloat);
  float* to = tensor.mutable_data_ptr<float>();
  for (int64_t c = 0; c < channels; ++c) {
    to[c] = float(value(c));
  }
  return tensor;
}

// Moves the running statistics towards the statistics of a batch. The running variance is the unbiased
// variance.
void update(
    const Moments& moments, int64_t rows, double momentum, const Tensor& mean,
    const Tensor& variance) {
  float* means = mean.mutable_data_ptr<float>();
  float* variances = variance.mutable_data_ptr<float>();
  const double unbiased = double(rows) / double(rows - 1);
  for (size_t c = 0; c < moments.mean.size(); ++c) {
    means[c] += float(momentum * (moments.mean[c] - means[c]));
    variances[c] += float(momentum * (moments.variance[c] * unbiased - variances[c]));
  }
}

template <class Number>
class BatchNorm : public torch::autograd::Function<BatchNorm<Number>> {
 public:
  static Tensor forward(
      AutogradContext* context, const Tensor& input, const Tensor& weight, const Tensor& bias,
      const std::optional<Tensor>& other, const std::optional<Tensor>& running_mean,
      const std::optional<Tensor>& running_variance, bool relu, double momentum, double epsilon) {
    const Tensor x = channels_last(input);
    const Size size(x);
    const Kernels<Number>& kernels = *kernels_for<Number>(size.channels);
    const Moments now = moments(kernels, x);
    const Tensor mean = by_channel(size.channels, [&](int64_t c) { return now.mean[c]; });
    const Tensor deviation = by_channel(
        size.channels, [&](int64_t c) { return 1 / std::sqrt(now.variance[c] + epsilon); });
    const Map map(
        weight.const_data_ptr<float>(), bias.const_data_ptr<float>(),
        mean.const_data_ptr<float>(), deviation.const_data_ptr<float>(), size.channels);
    Tensor y = at::empty_like(x);
    const Number* from = x.const_data_ptr<Number>();
    Number* to = y.mutable_data_ptr<Number>();
    std::optional<Tensor> sum;
    if (other.has_value()) {
      sum = channels_last(*other);
    }
    const Number* added = data<Number>(sum);
    in_parallel(size.rows, [&](int64_t, int64_t first, int64_t last) {
      const int64_t at = first * size.channels;
      kernels.apply(
          from + at, map.affine(), added == nullptr ? nullptr : added + at, relu, last - first,
          size.channels, to + at);
    });
    // Without a sum, x is enough to decide where the gradient passes the ReLU.
    const bool by_output = relu && other.has_value();
    context->save_for_backward(
        {x, weight, bias, mean, deviation, by_output ? y : Tensor()});
    context->saved_data["relu"] = relu;
    context->saved_data["other"] = other.has_value();
    // This comes after everything that can fail, so that a batch that is repeated is not counted twice.
    if (running_mean.has_value()) {
      update(now, size.rows, momentum, *running_mean, *running_variance);
    }
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1], &bias = saved[2], &y = saved[5];
    const float* mean = saved[3].const_data_ptr<float>();
    const float* deviation = saved[4].const_data_ptr<float>();
    const bool relu = context->saved_data["relu"].toBool();
    const bool has_other = context->saved_data["other"].toBool();
    const Tensor gradient = channels_last(gradients[0]);
    const Size size(x);
    const int64_t channels = size.channels;
    const Kernels<Number>& kernels = *kernels_for<Number>(channels);
    const Map map(
        weight.const_data_ptr<float>(), bias.const_data_ptr<float>(), mean, deviation, channels);
    const Number* from = x.const_data_ptr<Number>();
    const Number* g = gradient.const_data_ptr<Number>();
    const Number* output = y.defined() ? y.const_data_ptr<Number>() : nullptr;
    const auto mask = [&](int64_t at) {
      return Mask<Number>{relu, output == nullptr ? nullptr : output + at, map.affine()};
    };
    // The gradient of `other` is the masked gradient. The second pass then reads it.
    Tensor masked;
    if (has_other) {
      masked = relu ? at::empty_like(x) : gradient;
    }
    Number* to_other = has_other && relu ? masked.mutable_data_ptr<Number>() : nullptr;

    std::vector<double> sums;
    sum_parts(size, sums, [&](int64_t start, int64_t rows, float* scratch, double* to, double* more) {
      const int64_t at = start * channels;
      kernels.gradient_sums(
          g + at, from + at, mean, mask(at), rows, channels, scratch,
          to_other == nullptr ? nullptr : to_other + at, to, more);
    });
    std::vector<double> sum(channels), products(channels);
    for (int64_t part = 0; part < size.parts; ++part) {
      const double* some = sums.data() + 2 * part * channels;
      for (int64_t c = 0; c < channels; ++c) {
        sum[c] += some[c];
        products[c] += some[channels + c];
      }
    }
    // ∂x = scale · (∂y - mean(∂y) - x̂ · mean(∂y · x̂)), with x̂ = (x - mean) · deviation.
    std::vector<float> scale, shift;
    for (int64_t c = 0; c < channels; ++c) {
      const double rows = double(size.rows), d = deviation[c];
      const double slope = -double(map.scale[c]) * d * d * products[c] / rows;
      scale.push_back(float(slope));
      shift.push_back(float(-double(map.scale[c]) * sum[c] / rows - slope * mean[c]));
    }

    const Number* start = to_other == nullptr ? g : to_other;
    Tensor of_input = at::empty_like(x);
    Number* result = of_input.mutable_data_ptr<Number>();
    in_parallel(size.rows, [&](int64_t, int64_t first, int64_t last) {
      const int64_t at = first * channels;
      const Mask<Number> rest =
          to_other == nullptr ? mask(at) : Mask<Number>{false, nullptr, {}};
      kernels.input_gradient(
          start + at, from + at, rest, map.scale.data(), {scale.data(), shift.data()},
          last - first, channels, result + at);
    });
    const Tensor of_weight =
        by_channel(channels, [&](int64_t c) { return products[c] * deviation[c]; });
    const Tensor of_bias = by_channel(channels, [&](int64_t c) { return sum[c]; });
    const Tensor none;
    return {of_input, of_weight, of_bias, masked, none, none, none, none, none};
  }
};

}  // namespace
}  // namespace resnet::batch_norm

extern "C" {

// Batch norm of a batch by its own statistics, plus `other` unless it is null, then ReLU if `relu`. The result
// has gradients. Running statistics are updated unless they are null. `output` stays null if the kernels do not
// support the tensors or the processor.
const char* resnet_batch_norm(
    const resnet::batch_norm::Arguments* arguments, at::Tensor** output) noexcept {
  using namespace resnet::batch_norm;
  return resnet::guard([&] {
    const at::Tensor& input = *arguments->input;
    if (!resnet::OpenMp::serves() || !input.device().is_cpu() || !fit(*arguments)) {
      return;
    }
    const Tensor result = resnet::with_dtype(input.scalar_type(), [&](auto number) -> Tensor {
      using Number = decltype(number);
      if (kernels_for<Number>(input.size(1)) == nullptr) {
        return {};
      }
      return apply<BatchNorm<Number>>(*arguments);
    });
    resnet::give(result, output);
  });
}

}  // extern "C"
