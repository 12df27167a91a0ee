// Batch norm in training and its gradients on a CUDA device, by the kernels of batch_norm.cu (docs/decisions/0021).

#include "launch.h"

#include "../../libtorch/ffi.h"
#include "../../libtorch/tensors.h"
#include "../batch_norm/arguments.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <optional>

namespace resnet::cuda {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The kernels' most_threads.
constexpr int64_t THREADS = 256;
// Threads of a warp, which load neighbouring vectors.
constexpr int64_t WARP = 32;
// Blocks that sum: several for each of the 132 multiprocessors of an H100, but not many more, because the last block
// adds up what all of them found.
constexpr int64_t SUMMING_BLOCKS = 512;
// Blocks of the other kernels.
constexpr int64_t MOST_BLOCKS = 4096;
// Rows that a thread goes through at least, if there are enough.
constexpr int64_t ROWS_OF_THREAD = 4;

// A grid depends only on the shape, so the order of the sums, and with it their bits, do too.
Grid grid(const Tensor& x, int64_t most_blocks) {
  const int64_t rows = x.numel() / x.size(1), vectors = x.size(1) / vector_of(x);
  const int64_t across = std::min(vectors, WARP);
  int64_t down = 1;
  while (2 * down * across <= THREADS) {
    down *= 2;
  }
  const int64_t columns = (vectors + across - 1) / across;
  const int64_t wanted = (rows + down * ROWS_OF_THREAD - 1) / (down * ROWS_OF_THREAD);
  return {std::clamp<int64_t>(most_blocks / columns, 1, wanted), columns, across, down};
}

const float* floats(const Tensor& tensor) {
  return tensor.const_data_ptr<float>();
}

float* mutable_floats(const Tensor& tensor) {
  return tensor.mutable_data_ptr<float>();
}

// Where the blocks of a sum leave their parts, and the counters of blocks. Counters are 0 before and after a launch, so
// one set of them serves all launches, which follow each other on one stream.
struct Scratch {
  Tensor partial, arrived;

  Scratch(const Tensor& x, const Grid& grid)
      : partial(at::empty({grid.blocks_x * 2 * x.size(1)}, x.options().dtype(at::kFloat))),
        arrived(counters(x)) {}

 private:
  static Tensor counters(const Tensor& x) {
    // For up to 65,536 channels of 16 bits.
    constexpr int64_t COUNT = 1 << 10;
    // Never freed, because at the end of the process CUDA may be gone before it.
    static auto* const counters = new Tensor(at::zeros({COUNT}, x.options().dtype(at::kInt)));
    return *counters;
  }
};

class BatchNorm : public torch::autograd::Function<BatchNorm> {
 public:
  static Tensor forward(
      AutogradContext* context, const Tensor& x, const Tensor& weight, const Tensor& bias,
      const std::optional<Tensor>& other, const std::optional<Tensor>& running_mean,
      const std::optional<Tensor>& running_variance, bool relu, double momentum, double epsilon) {
    const int64_t rows = x.numel() / x.size(1);
    const int channels = static_cast<int>(x.size(1));
    // Rows: mean, deviation, scale, shift.
    const Tensor found = at::empty({4, channels}, x.options().dtype(at::kFloat));
    const auto row = [&](int64_t i) { return mutable_floats(found) + i * channels; };
    const Grid summing = grid(x, SUMMING_BLOCKS);
    const Scratch scratch(x, summing);
    const auto optional = [](const std::optional<Tensor>& tensor) {
      return tensor.has_value() ? mutable_floats(*tensor) : nullptr;
    };
    launch(
        "moments", x, summing, x.const_data_ptr(), rows, channels, floats(weight), floats(bias),
        static_cast<float>(momentum), static_cast<float>(epsilon), optional(running_mean),
        optional(running_variance), mutable_floats(scratch.partial), scratch.arrived.mutable_data_ptr(),
        row(0), row(1), row(2), row(3));
    std::optional<Tensor> added;
    if (other.has_value()) {
      added = in_vectors(*other);
    }
    Tensor y = at::empty_like(x);
    launch(
        "apply", x, grid(x, MOST_BLOCKS), x.const_data_ptr(),
        added.has_value() ? added->const_data_ptr() : nullptr, rows, channels, row(2), row(3), relu,
        y.mutable_data_ptr());
    // Without a sum, x is enough to decide where the gradient passes the ReLU.
    const bool by_output = relu && other.has_value();
    context->save_for_backward({x, found, by_output ? y : Tensor()});
    context->saved_data["relu"] = relu;
    context->saved_data["other"] = other.has_value();
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &found = saved[1], &y = saved[2];
    const bool relu = context->saved_data["relu"].toBool();
    const bool has_other = context->saved_data["other"].toBool();
    const Tensor gradient = in_vectors(gradients[0]);
    const int64_t rows = x.numel() / x.size(1);
    const int channels = static_cast<int>(x.size(1));
    const auto row = [&](const Tensor& of, int64_t i) { return mutable_floats(of) + i * channels; };
    const void* const output = y.defined() ? y.const_data_ptr() : nullptr;
    // The gradient of `other` is the masked gradient. The second kernel then reads it.
    Tensor masked;
    if (has_other) {
      masked = relu ? at::empty_like(x) : gradient;
    }
    const bool writes_masked = has_other && relu;
    // Rows: gradient of the weight, gradient of the bias, slope, offset.
    const Tensor sums = at::empty({4, channels}, found.options());
    const Grid summing = grid(x, SUMMING_BLOCKS);
    const Scratch scratch(x, summing);
    launch(
        "gradient_sums", x, summing, gradient.const_data_ptr(), x.const_data_ptr(), output, rows,
        channels, row(found, 0), row(found, 1), row(found, 2), row(found, 3), relu,
        mutable_floats(scratch.partial), scratch.arrived.mutable_data_ptr(),
        writes_masked ? masked.mutable_data_ptr() : nullptr, row(sums, 0), row(sums, 1), row(sums, 2),
        row(sums, 3));
    Tensor of_input = at::empty_like(x);
    const Tensor& start = writes_masked ? masked : gradient;
    launch(
        "input_gradient", x, grid(x, MOST_BLOCKS), start.const_data_ptr(), x.const_data_ptr(),
        writes_masked ? nullptr : output, rows, channels, row(found, 2), row(found, 3),
        relu && !writes_masked, row(sums, 2), row(sums, 3), of_input.mutable_data_ptr());
    const Tensor none;
    return {of_input, sums[0], sums[1], masked, none, none, none, none, none};
  }
};

}  // namespace
}  // namespace resnet::cuda

extern "C" {

// As resnet_batch_norm, for tensors on a CUDA device whose kernels were loaded.
const char* resnet_cuda_batch_norm(
    const resnet::batch_norm::Arguments* arguments, at::Tensor** output) noexcept {
  using namespace resnet::cuda;
  return resnet::guard([&] {
    const at::Tensor& input = *arguments->input;
    if (serves(input) && is_in_vectors(input) && resnet::batch_norm::fit(*arguments)) {
      resnet::give(resnet::batch_norm::apply<BatchNorm>(*arguments), output);
    }
  });
}

}  // extern "C"
