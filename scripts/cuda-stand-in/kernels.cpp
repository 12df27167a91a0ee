// Kernels: their registration when a library is loaded, and their launches, which compute nothing.

#include "state.h"

#include <unordered_map>

namespace stand_in {
namespace {

std::unordered_map<const void*, std::string>& names() {
  static auto* const names = new std::unordered_map<const void*, std::string>;
  return *names;
}

cudaError_t launch(const void* function, cudaStream_t stream) {
  const Lock lock(mutex());
  const auto name = names().find(function);
  submit(stream, name == names().end() ? "a kernel without a name" : name->second);
  return cudaSuccess;
}

}  // namespace
}  // namespace stand_in

using namespace stand_in;

extern "C" {

// These functions are called by code that NVIDIA's compiler generates. They are not documented.

void** __cudaRegisterFatBinary(void*) {
  static void* handle;
  return &handle;
}

void __cudaRegisterFatBinaryEnd(void**) {}

void __cudaUnregisterFatBinary(void**) {}

void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}

void __cudaRegisterFunction(
    void**, const char* function, char*, const char* name, int, uint3*, uint3*, dim3*, dim3*, int*) {
  const Lock lock(mutex());
  names()[function] = name;
}

cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) {
  *kernel = reinterpret_cast<cudaKernel_t>(const_cast<void*>(function));
  return cudaSuccess;
}

cudaError_t __cudaLaunchKernel(
    cudaKernel_t kernel, dim3, dim3, void**, size_t, cudaStream_t stream) {
  return launch(kernel, stream);
}

cudaError_t cudaLaunchKernelExC(
    const cudaLaunchConfig_t* configuration, const void* function, void**) {
  return launch(function, configuration->stream);
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  *attributes = {};
  attributes->maxThreadsPerBlock = 1024;
  attributes->ptxVersion = attributes->binaryVersion = 90;
  attributes->numRegs = 32;
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) {
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int, size_t) {
  *blocks = 2;
  return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
    int* blocks, const void*, int, size_t, unsigned) {
  *blocks = 2;
  return cudaSuccess;
}

cudaError_t cudaGetSymbolAddress(void** address, const void*) {
  static char memory[4096];
  *address = memory;
  return cudaSuccess;
}

}  // extern "C"
