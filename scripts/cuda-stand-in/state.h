// What the parts of the stand-in share: the log, streams, and the rules of stream capture.
//
// "Guide" is NVIDIA's CUDA C++ Programming Guide, chapter "CUDA Graphs", section "Creating a Graph Using Stream
// Capture". "Runtime" is the CUDA Runtime API reference.

#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace stand_in {

constexpr int MOST_DEVICES = 8;

// All functions hold this lock, so the stand-in's state is never used by two threads at once.
using Lock = std::lock_guard<std::recursive_mutex>;
std::recursive_mutex& mutex();

// The value of an environment variable as a number.
long number(const char* variable, long otherwise);

// ---- log.cpp: a file of JSON lines, named by CUDA_STAND_IN_LOG.

using Counts = std::map<std::string, long>;

// A field of a line. Its value is JSON already.
struct Field {
  const char* name;
  std::string json;
};

std::string text(const std::string& value);
std::string counts(const Counts& value);
std::string demangled(const std::string& symbol);

void log(const char* event, const std::vector<Field>& fields);
// A line with the functions that led to this call.
void log_with_trace(const char* event, std::vector<Field> fields);
// A broken rule.
void violation(const std::string& rule, const std::string& call);

// What the program did since the last replay of a graph.
struct Activity {
  long kernels = 0, copies_to_device = 0, copies_to_host = 0, waits = 0;
};
Activity& activity();

// ---- devices.cpp

int current_device();
int device_count();
// Bytes of a device.
size_t device_memory();

// ---- memory.cpp

// Bytes of each device that are allocated now.
std::vector<size_t> used_memory();
std::vector<size_t> peak_memory();
bool is_device_memory(const void* address);

// ---- streams.cpp

struct Stream {
  int device = 0;
  // Zero if the stream is not capturing.
  unsigned long long capture = 0;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  bool invalidated = false;
  // The kernels, copies and fills that the capture has recorded.
  std::vector<std::string> nodes;
};

// The stream of a handle; null for the legacy and the per-thread default stream, which cannot capture.
Stream* stream_of(cudaStream_t handle);

// ---- capture.cpp

bool is_capturing(cudaStream_t stream);
bool is_any_capturing();
// Work that is given to a stream: recorded, or counted. Returns whether it was recorded.
bool submit(cudaStream_t stream, const std::string& what);
// A call that the Runtime calls potentially unsafe during a capture. Returns whether it is forbidden now.
bool is_forbidden(const char* call);
// Ends the capture of a stream in an error: the Guide's "Invalidation".
void invalidate_all();

// Whether the first capture is to be broken at this place.
bool breaks_at(const std::string& place);

// Remembers an error for cudaGetLastError, and returns it.
cudaError_t failed(cudaError_t error);

}  // namespace stand_in
