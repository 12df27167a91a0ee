// The driver, libcuda.so.1: what the program asks it, and loading and launching kernels that were compiled at run
// time.

#include "state.h"

#include <dlfcn.h>

#include <cstring>

using namespace stand_in;

// devices.cpp
extern "C" int stand_in_has_context(int device);

namespace {

// Values of CUresult and CUdevice_attribute in cuda.h.
constexpr int SUCCESS = 0, NO_DEVICE = 100, NOT_FOUND = 500, FORBIDDEN_IN_CAPTURE = 900;
constexpr int COMPUTE_CAPABILITY_MAJOR = 75, COMPUTE_CAPABILITY_MINOR = 76;

struct Function {
  std::string name;
};

int give(void** result) {
  *result = new Function;
  return SUCCESS;
}

// Loading code takes memory of the device, so it can't be done during a capture (Guide, "Prohibited and Unhandled
// Operations"; lazy loading is the usual way to meet this: Programming Guide, "Lazy Loading").
int load(void** result, const char* call) {
  const Lock lock(mutex());
  return is_forbidden(call) ? FORBIDDEN_IN_CAPTURE : give(result);
}

int unknown() {
  return SUCCESS;
}

}  // namespace

extern "C" {

int cuInit(unsigned) {
  return device_count() == 0 ? NO_DEVICE : SUCCESS;
}

int cuDriverGetVersion(int* version) {
  return cudaDriverGetVersion(version);
}

// NVRTC asks for tables of functions that are not documented, and can do without them.
int cuGetExportTable(const void**, const void*) {
  return NOT_FOUND;
}

int cuGetErrorString(int error, const char** text) {
  *text = error == NO_DEVICE ? "no CUDA-capable device is detected" : "an error of the stand-in";
  return SUCCESS;
}

int cuGetErrorName(int, const char** text) {
  *text = "CUDA_ERROR_OF_THE_STAND_IN";
  return SUCCESS;
}

int cuDeviceGetCount(int* count) {
  *count = device_count();
  return SUCCESS;
}

int cuDeviceGet(int* device, int index) {
  *device = index;
  return SUCCESS;
}

int cuDeviceGetName(char* name, int length, int) {
  strncpy(name, "stand-in for an H100", size_t(length));
  return SUCCESS;
}

int cuDeviceTotalMem_v2(size_t* bytes, int) {
  *bytes = device_memory();
  return SUCCESS;
}

int cuDeviceGetAttribute(int* value, int attribute, int device) {
  switch (attribute) {
    case COMPUTE_CAPABILITY_MAJOR:
      return cudaDeviceGetAttribute(value, cudaDevAttrComputeCapabilityMajor, device);
    case COMPUTE_CAPABILITY_MINOR:
      return cudaDeviceGetAttribute(value, cudaDevAttrComputeCapabilityMinor, device);
    default:
      return cudaDeviceGetAttribute(value, cudaDeviceAttr(attribute), device);
  }
}

int cuDevicePrimaryCtxGetState(int device, unsigned* flags, int* is_active) {
  *flags = 0;
  *is_active = stand_in_has_context(device);
  return SUCCESS;
}

int cuCtxGetCurrent(void** context) {
  static int current;
  *context = &current;
  return SUCCESS;
}

int cuModuleLoadData(void** module, const void*) {
  return load(module, "cuModuleLoadData");
}

int cuModuleLoadDataEx(void** module, const void*, unsigned, void*, void*) {
  return load(module, "cuModuleLoadDataEx");
}

int cuModuleUnload(void*) {
  return SUCCESS;
}

int cuModuleGetFunction(void** function, void*, const char* name) {
  *function = new Function{name};
  return SUCCESS;
}

int cuFuncSetAttribute(void*, int, int) {
  return SUCCESS;
}

int cuLaunchKernel(
    void* function, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
    cudaStream_t stream, void**, void**) {
  const Lock lock(mutex());
  submit(stream, static_cast<Function*>(function)->name);
  return SUCCESS;
}

// The runtime's way to find functions of the driver. Those that the stand-in lacks succeed and do nothing.
cudaError_t cudaGetDriverEntryPointByVersion(
    const char* name, void** function, unsigned, unsigned long long,
    cudaDriverEntryPointQueryResult* result) {
  *function = dlsym(RTLD_DEFAULT, name);
  if (*function == nullptr) {
    *function = reinterpret_cast<void*>(&unknown);
  }
  if (result != nullptr) {
    *result = cudaDriverEntryPointSuccess;
  }
  return cudaSuccess;
}

// The program asks libtorch_cuda for this function, and the loader would find the runtime's own. It is looked up
// by handle, so loading the stand-in first is not enough.
void* dlsym(void* library, const char* name) __THROW {
  using Lookup = void* (*)(void*, const char*);
  static const auto real = reinterpret_cast<Lookup>(dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.34"));
  static const auto older = reinterpret_cast<Lookup>(dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5"));
  if (strcmp(name, "cudaStreamBeginCapture") == 0) {
    return reinterpret_cast<void*>(&cudaStreamBeginCapture);
  }
  return (real != nullptr ? real : older)(library, name);
}

}  // extern "C"
