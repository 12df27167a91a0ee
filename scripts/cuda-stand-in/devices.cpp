// Devices and their contexts. CUDA_STAND_IN_DEVICES is their number, CUDA_STAND_IN_MEMORY the bytes of each,
// CUDA_STAND_IN_CAPABILITY ten times their compute capability.

#include "state.h"

#include <cstring>
#include <set>

namespace stand_in {
namespace {

thread_local int current = 0;
thread_local cudaError_t last_error = cudaSuccess;

// The figures of an H100 (NVIDIA H100 datasheet, and compute capability 9.0 in the Programming Guide's table
// "Technical Specifications per Compute Capability").
constexpr int CAPABILITY = 90, MULTIPROCESSORS = 132, WARP = 32;
constexpr int THREADS_OF_BLOCK = 1024, THREADS_OF_MULTIPROCESSOR = 2048, BLOCKS_OF_MULTIPROCESSOR = 32;
constexpr int SHARED_OF_BLOCK = 48 << 10, SHARED_OPT_IN = 227 << 10;
constexpr int REGISTERS = 64 << 10, LARGEST_X = 0x7fffffff, LARGEST_YZ = 65535;
constexpr int L2_CACHE = 50 << 20;
constexpr size_t MEMORY = 85'000'000'000;
constexpr int CUDA_VERSION_NUMBER = 13000;

int capability() {
  return int(number("CUDA_STAND_IN_CAPABILITY", CAPABILITY));
}

std::set<int>& contexts() {
  static std::set<int> contexts;
  return contexts;
}

}  // namespace

int current_device() {
  return current;
}

// Devices that CUDA_VISIBLE_DEVICES hides do not exist for the program (Programming Guide, "CUDA Environment
// Variables"). Only an empty value is emulated.
int device_count() {
  const char* visible = getenv("CUDA_VISIBLE_DEVICES");
  return visible != nullptr && *visible == '\0' ? 0 : int(number("CUDA_STAND_IN_DEVICES", 1));
}

size_t device_memory() {
  return size_t(number("CUDA_STAND_IN_MEMORY", MEMORY));
}

cudaError_t failed(cudaError_t error) {
  if (error != cudaSuccess) {
    last_error = error;
  }
  return error;
}

}  // namespace stand_in

using namespace stand_in;

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  *count = device_count();
  return *count == 0 ? failed(cudaErrorNoDevice) : cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = current;
  return cudaSuccess;
}

// Makes the device's context, which takes hundreds of MiB of a real device (Runtime, "Initialization").
cudaError_t cudaSetDevice(int device) {
  const Lock lock(mutex());
  if (device < 0 || device >= device_count()) {
    return failed(cudaErrorInvalidDevice);
  }
  if (contexts().insert(device).second) {
    log_with_trace("context", {{"device", std::to_string(device)}});
  }
  current = device;
  return cudaSuccess;
}

// For cuDevicePrimaryCtxGetState.
int stand_in_has_context(int device) {
  const Lock lock(mutex());
  return int(contexts().count(device));
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDA_VERSION_NUMBER;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = CUDA_VERSION_NUMBER;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  strcpy(properties->name, "stand-in for an H100");
  properties->totalGlobalMem = device_memory();
  properties->major = capability() / 10;
  properties->minor = capability() % 10;
  properties->multiProcessorCount = MULTIPROCESSORS;
  properties->maxThreadsPerBlock = THREADS_OF_BLOCK;
  properties->maxThreadsPerMultiProcessor = THREADS_OF_MULTIPROCESSOR;
  properties->maxBlocksPerMultiProcessor = BLOCKS_OF_MULTIPROCESSOR;
  properties->warpSize = WARP;
  properties->sharedMemPerBlock = SHARED_OF_BLOCK;
  properties->sharedMemPerMultiprocessor = SHARED_OPT_IN + (1 << 10);
  properties->sharedMemPerBlockOptin = SHARED_OPT_IN;
  properties->regsPerBlock = properties->regsPerMultiprocessor = REGISTERS;
  properties->maxGridSize[0] = LARGEST_X;
  properties->maxGridSize[1] = properties->maxGridSize[2] = LARGEST_YZ;
  properties->maxThreadsDim[0] = properties->maxThreadsDim[1] = THREADS_OF_BLOCK;
  properties->maxThreadsDim[2] = 64;
  properties->l2CacheSize = L2_CACHE;
  properties->textureAlignment = 512;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  static const std::map<int, int> values = {
      {cudaDevAttrComputeCapabilityMajor, capability() / 10},
      {cudaDevAttrComputeCapabilityMinor, capability() % 10},
      {cudaDevAttrMultiProcessorCount, MULTIPROCESSORS},
      {cudaDevAttrMaxThreadsPerBlock, THREADS_OF_BLOCK},
      {cudaDevAttrMaxThreadsPerMultiProcessor, THREADS_OF_MULTIPROCESSOR},
      {cudaDevAttrMaxBlocksPerMultiprocessor, BLOCKS_OF_MULTIPROCESSOR},
      {cudaDevAttrWarpSize, WARP},
      {cudaDevAttrMaxSharedMemoryPerBlock, SHARED_OF_BLOCK},
      {cudaDevAttrMaxSharedMemoryPerBlockOptin, SHARED_OPT_IN},
      {cudaDevAttrMaxGridDimX, LARGEST_X},
      {cudaDevAttrMaxGridDimY, LARGEST_YZ},
      {cudaDevAttrMaxGridDimZ, LARGEST_YZ},
  };
  const auto found = values.find(attribute);
  *value = found == values.end() ? 0 : found->second;
  return cudaSuccess;
}

cudaError_t cudaDeviceCanAccessPeer(int* value, int, int) {
  *value = 0;
  return cudaSuccess;
}

cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}

cudaError_t cudaPeekAtLastError() {
  return last_error;
}

// The texts are NVIDIA's, because the program recognises an error of memory by its text.
const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
      return "operation failed due to a previous error during capture";
    case cudaErrorStreamCaptureImplicit:
      return "operation would make the legacy stream depend on a capturing blocking stream";
    default:
      return "an error of the stand-in";
  }
}

const char* cudaGetErrorName(cudaError_t) {
  return "cudaErrorOfTheStandIn";
}

}  // extern "C"
