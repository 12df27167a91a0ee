// Max pooling and its gradient on a CUDA device, by the kernels of max_pool.cu (docs/decisions/0021).

#include "launch.h"

#include "../../libtorch/ffi.h"
#include "../../libtorch/tensors.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <vector>

namespace resnet::cuda {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t THREADS = 256;
// The place in a window is a byte.
constexpr int64_t LARGEST_KERNEL = 15;

// As in max_pool.cu.
struct Windows {
  int height, width, out_height, out_width, kernel, stride, padding;
};

// One thread for each vector of `images`.
Grid grid(const Tensor& images) {
  const int64_t vectors = images.numel() / vector_of(images);
  return {(vectors + THREADS - 1) / THREADS, 1, THREADS, 1};
}

int64_t outputs(int64_t side, int64_t kernel, int64_t stride, int64_t padding) {
  return (side + 2 * padding - kernel) / stride + 1;
}

class MaxPool : public torch::autograd::Function<MaxPool> {
 public:
  static Tensor forward(
      AutogradContext* context, const Tensor& x, int64_t kernel, int64_t stride, int64_t padding) {
    const int64_t height = outputs(x.size(2), kernel, stride, padding);
    const int64_t width = outputs(x.size(3), kernel, stride, padding);
    const auto options = x.options().memory_format(at::MemoryFormat::ChannelsLast);
    Tensor y = at::empty({x.size(0), x.size(1), height, width}, options);
    const Tensor places = at::empty_like(y, y.options().dtype(at::kByte));
    context->save_for_backward({places});
    context->saved_data["input"] = x.sizes().vec();
    context->saved_data["window"] = std::vector<int64_t>{kernel, stride, padding};
    launch(
        "max_pool", x, grid(y), x.const_data_ptr(), static_cast<int>(x.size(0)),
        static_cast<int>(x.size(1)), windows(x, y, kernel, stride, padding), y.mutable_data_ptr(),
        places.mutable_data_ptr());
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const Tensor places = context->get_saved_variables()[0];
    const auto input = context->saved_data["input"].toIntVector();
    const auto window = context->saved_data["window"].toIntVector();
    const Tensor gradient = in_vectors(gradients[0]);
    Tensor of_input =
        at::empty(input, gradient.options().memory_format(at::MemoryFormat::ChannelsLast));
    launch(
        "max_pool_gradient", gradient, grid(of_input), gradient.const_data_ptr(),
        places.const_data_ptr(), static_cast<int>(input[0]), static_cast<int>(input[1]),
        windows(of_input, gradient, window[0], window[1], window[2]), of_input.mutable_data_ptr());
    const Tensor none;
    return {of_input, none, none, none};
  }

 private:
  static Windows windows(
      const Tensor& x, const Tensor& y, int64_t kernel, int64_t stride, int64_t padding) {
    const auto whole = [](int64_t number) { return static_cast<int>(number); };
    return {whole(x.size(2)), whole(x.size(3)), whole(y.size(2)), whole(y.size(3)),
            whole(kernel),    whole(stride),    whole(padding)};
  }
};

}  // namespace
}  // namespace resnet::cuda

extern "C" {

// Max pooling of images by square windows. The result has gradients. `output` stays null if no kernels were loaded for
// the tensor's device, or if they do not support it.
const char* resnet_cuda_max_pool(
    const at::Tensor* input, int64_t kernel, int64_t stride, int64_t padding,
    at::Tensor** output) noexcept {
  using namespace resnet::cuda;
  return resnet::guard([&] {
    if (serves(*input) && is_in_vectors(*input) && kernel <= LARGEST_KERNEL &&
        2 * padding <= kernel && kernel <= std::min(input->size(2), input->size(3)) + 2 * padding) {
      resnet::give(MaxPool::apply(*input, kernel, stride, padding), output);
    }
  });
}

}  // extern "C"
