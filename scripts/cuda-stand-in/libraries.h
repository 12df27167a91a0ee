// What the stand-ins for cuBLAS and cuDNN share: handles that remember a stream. The real headers are not needed,
// because the functions have C names: a parameter that the stand-in does not use needs no name and no exact type.

#pragma once

#include "state.h"

#include <cstdlib>

namespace stand_in {

// All functions of both libraries return 0 for success; 1 is the error "not initialised".
constexpr int SUCCESS = 0, NOT_INITIALISED = 1;

struct Handle {
  cudaStream_t stream = nullptr;
};

inline Handle* handle_of(void* handle) {
  return static_cast<Handle*>(handle);
}

// A handle takes memory of the device, so none can be made during a capture.
inline int create_handle(void** handle, const char* call) {
  const Lock lock(mutex());
  if (is_forbidden(call)) {
    return NOT_INITIALISED;
  }
  *handle = new Handle;
  return SUCCESS;
}

inline int set_stream(void* handle, cudaStream_t stream) {
  handle_of(handle)->stream = stream;
  return SUCCESS;
}

inline int compute(void* handle, const std::string& what) {
  const Lock lock(mutex());
  submit(handle_of(handle)->stream, what);
  return SUCCESS;
}

// A description of something, such as a matrix's layout.
inline int create_description(void** description) {
  constexpr size_t BYTES = 4096;
  *description = calloc(1, BYTES);
  return *description == nullptr ? NOT_INITIALISED : SUCCESS;
}

}  // namespace stand_in

// A function that only succeeds.
#define SUCCEEDS(name) \
  int name(...) {      \
    return 0;          \
  }
