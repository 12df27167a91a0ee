// Information about libtorch, and the settings of its global context.

#include "ffi.h"

#include <ATen/Context.h>
#include <ATen/Version.h>
#include <torch/headeronly/version.h>

#include <dlfcn.h>

#include <cstdlib>
#include <string>

extern "C" {

// The version that the program was compiled against, such as "2.11.0".
const char* resnet_libtorch_version() noexcept {
  return TORCH_VERSION;
}

// The file that libtorch's CPU part was loaded from, or null if the dynamic loader does not know it. The loader
// owns the text.
const char* resnet_libtorch_file() noexcept {
  Dl_info info;
  const auto address = reinterpret_cast<const void*>(&at::get_cpu_capability);
  return dladdr(address, &info) != 0 ? info.dli_fname : nullptr;
}

// The instruction set that libtorch's own kernels use on this machine, such as "AVX512".
const char* resnet_cpu_capability() noexcept {
  static const std::string capability = at::get_cpu_capability();
  return capability.c_str();
}

// Sets whether CUDA devices may round the factors of products of 32-bit floats to TF32.
const char* resnet_allow_tf32(bool allow) noexcept {
  return resnet::guard([&] {
    at::globalContext().setAllowTF32CuDNN(allow);
    at::globalContext().setAllowTF32CuBLAS(allow);
  });
}

// Sets whether CUDA devices use algorithms that give the same bits each time. Otherwise they use the algorithms
// that are the fastest when a shape is first used.
const char* resnet_set_deterministic(bool deterministic) noexcept {
  return resnet::guard([&] {
    if (deterministic) {
      // cuBLAS reads this variable before its first product. A value that the user has set stays.
      setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", 0);
    }
    auto& context = at::globalContext();
    // An operation without a deterministic algorithm fails.
    context.setDeterministicAlgorithms(deterministic, false);
    // No operation in this program reads memory before it is written.
    context.setDeterministicFillUninitializedMemory(false);
    context.setDeterministicCuDNN(deterministic);
    context.setBenchmarkCuDNN(!deterministic);
  });
}

}  // extern "C"
