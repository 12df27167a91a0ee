// Launches this program's CUDA kernels.

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace resnet::cuda {

// Blocks and threads of a launch, in two dimensions.
struct Grid {
  int64_t blocks_x, blocks_y, threads_x, threads_y;
};

// Whether there are kernels for the device of this tensor and its dtype.
bool serves(const at::Tensor& tensor);

// The largest number of neighbouring channels that a thread loads at once, 16 bytes of them.
int64_t vector_of(const at::Tensor& tensor);

// Whether kernels can load the tensor in vectors: images in channels-last order with a suitable number of channels.
bool is_in_vectors(const at::Tensor& tensor);

// Images of the shape of a tensor that is in vectors, in channels-last order. They are copied if a vector cannot be
// loaded from their address, as with a part of a larger tensor.
at::Tensor in_vectors(const at::Tensor& images);

// Launches a kernel on libtorch's current stream. The kernel's name is `kernel` and the dtype of `like`. `arguments`
// points to each argument.
void launch_kernel(const char* kernel, const at::Tensor& like, Grid grid, void** arguments);

template <class... Argument>
void launch(const char* kernel, const at::Tensor& like, Grid grid, Argument... arguments) {
  void* pointers[] = {static_cast<void*>(&arguments)...};
  launch_kernel(kernel, like, grid, pointers);
}

}  // namespace resnet::cuda
