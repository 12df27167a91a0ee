// Loads kernels that NVRTC has compiled, and launches them through NVIDIA's driver. The driver's functions are looked up
// by name, so the program also runs where there is no driver.

#include "launch.h"

#include "../../libtorch/ffi.h"
#include "../../libtorch/tensors.h"

#include <ATen/ops/clone.h>
#include <ATen/ops/empty.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>

#include <dlfcn.h>

#include <map>
#include <mutex>
#include <vector>

namespace resnet::cuda {
namespace {

constexpr int64_t VECTOR_BYTES = 16;

// Functions of cuda.h, which all return a CUresult; 0 is success. Handles are pointers.
struct Driver {
  int (*load)(void** module, const void* image);
  int (*find)(void** function, void* module, const char* name);
  int (*launch)(
      void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
      unsigned block_y, unsigned block_z, unsigned shared_bytes, void* stream, void** arguments,
      void** extra);
  int (*describe)(int error, const char** text);

  Driver() {
    // The handle stays open, because the driver is never unloaded.
    void* const library = dlopen("libcuda.so.1", RTLD_LAZY);
    TORCH_CHECK(library != nullptr, "the driver cannot be opened: ", dlerror());
    look_up(library, "cuModuleLoadData", load);
    look_up(library, "cuModuleGetFunction", find);
    look_up(library, "cuLaunchKernel", launch);
    look_up(library, "cuGetErrorString", describe);
  }

  void check(int error, const char* what) const {
    const char* text = nullptr;
    TORCH_CHECK(
        error == 0, "CUDA error: ", what, ": ",
        describe(error, &text) == 0 && text != nullptr ? text : "unknown error");
  }

 private:
  template <typename Function>
  static void look_up(void* library, const char* name, Function*& function) {
    function = reinterpret_cast<Function*>(dlsym(library, name));
    TORCH_CHECK(function != nullptr, "the driver has no ", name);
  }
};

const Driver& driver() {
  static const Driver driver;
  return driver;
}

// The kernels of a device. There is one device in a process that trains.
struct Kernels {
  c10::DeviceIndex device = -1;
  std::vector<void*> modules;
  std::map<std::string, void*> functions;
  // In tests: launches on the host, in the place of the driver.
  int (*emulated)(
      const char* kernel, int64_t blocks_x, int64_t blocks_y, int64_t threads_x, int64_t threads_y,
      void** arguments) = nullptr;
};

Kernels kernels;

const char* suffix(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat:
      return "_fp32";
    case at::kBFloat16:
      return "_bf16";
    case at::kHalf:
      return "_fp16";
    default:
      return nullptr;
  }
}

// A function is looked up once. Modules are few.
void* function(const std::string& name) {
  // Gradients are computed in another thread.
  static std::mutex mutex;
  const std::lock_guard<std::mutex> lock(mutex);
  void*& found = kernels.functions[name];
  for (size_t i = 0; found == nullptr && i < kernels.modules.size(); ++i) {
    if (driver().find(&found, kernels.modules[i], name.c_str()) != 0) {
      found = nullptr;
    }
  }
  TORCH_CHECK(found != nullptr, "no CUDA kernel is called ", name);
  return found;
}

}  // namespace

bool serves(const at::Tensor& tensor) {
  const bool is_here = kernels.emulated != nullptr
      ? tensor.device().is_cpu()
      : tensor.device().is_cuda() && tensor.device().index() == kernels.device;
  return is_here && suffix(tensor.scalar_type()) != nullptr;
}

int64_t vector_of(const at::Tensor& tensor) {
  return VECTOR_BYTES / tensor.element_size();
}

bool is_in_vectors(const at::Tensor& tensor) {
  return tensor.dim() == 4 && tensor.numel() > 0 && tensor.size(1) % vector_of(tensor) == 0 &&
      tensor.is_contiguous(at::MemoryFormat::ChannelsLast) &&
      reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % VECTOR_BYTES == 0;
}

at::Tensor in_vectors(const at::Tensor& images) {
  const at::Tensor ordered = channels_last(images);
  return is_in_vectors(ordered) ? ordered : ordered.clone();
}

void launch_kernel(const char* kernel, const at::Tensor& like, Grid grid, void** arguments) {
  const std::string name = std::string(kernel) + suffix(like.scalar_type());
  if (kernels.emulated != nullptr) {
    TORCH_CHECK(
        kernels.emulated(
            name.c_str(), grid.blocks_x, grid.blocks_y, grid.threads_x, grid.threads_y, arguments) == 0,
        "the emulation has no kernel ", name);
    return;
  }
  const c10::impl::VirtualGuardImpl cuda(c10::DeviceType::CUDA);
  void* const stream = cuda.getStreamNativeHandle(cuda.getStream(like.device()));
  const auto size = [](int64_t count) { return static_cast<unsigned>(count); };
  driver().check(
      driver().launch(
          function(name), size(grid.blocks_x), size(grid.blocks_y), 1, size(grid.threads_x),
          size(grid.threads_y), 1, 0, stream, arguments, nullptr),
      kernel);
}

}  // namespace resnet::cuda

extern "C" {

// Loads compiled kernels for the device `index`. They are used from then on.
const char* resnet_load_cuda_kernels(int8_t index, const void* binary) noexcept {
  using namespace resnet::cuda;
  return resnet::guard([&] {
    // Makes the device's context, if there is none yet, and makes it current.
    const c10::Device device(c10::DeviceType::CUDA, index);
    const c10::impl::VirtualGuardImpl cuda(c10::DeviceType::CUDA);
    const c10::Device before = cuda.exchangeDevice(device);
    at::empty({1}, at::device(device));
    void* module = nullptr;
    driver().check(driver().load(&module, binary), "loading kernels");
    kernels.modules.push_back(module);
    kernels.device = index;
    cuda.uncheckedSetDevice(before);
  });
}

// From now on, kernels are for tensors on the CPU, and `launch` computes them. Null ends this.
void resnet_emulate_cuda_kernels(decltype(resnet::cuda::Kernels::emulated) launch) noexcept {
  resnet::cuda::kernels.emulated = launch;
}

}  // extern "C"
