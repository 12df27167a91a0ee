// The rules of stream capture.
//
// CUDA_STAND_IN_BREAK breaks the program's first capture on purpose: `node 30` at its 30th kernel, `begin` after it
// has begun, `end` when it ends, `instantiate` when the graph is made ready to run.

#include "state.h"

#include <cstdlib>
#include <cstring>
#include <set>

namespace stand_in {

bool breaks_at(const std::string& place) {
  const char* asked = getenv("CUDA_STAND_IN_BREAK");
  static bool is_broken = false;
  if (is_broken || asked == nullptr || place != asked) {
    return false;
  }
  is_broken = true;
  log("broken", {{"at", text(place)}});
  return true;
}

namespace {

// The mode of this thread (Runtime, cudaThreadExchangeStreamCaptureMode).
thread_local cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;

std::set<Stream*>& capturing() {
  static auto* const streams = new std::set<Stream*>;
  return *streams;
}

cudaStreamCaptureStatus status_of(cudaStream_t handle) {
  const Stream* stream = stream_of(handle);
  if (stream == nullptr || stream->capture == 0) {
    return cudaStreamCaptureStatusNone;
  }
  return stream->invalidated ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
}

}  // namespace

bool is_capturing(cudaStream_t stream) {
  return status_of(stream) != cudaStreamCaptureStatusNone;
}

bool is_any_capturing() {
  return !capturing().empty();
}

bool submit(cudaStream_t handle, const std::string& what) {
  if (is_capturing(handle)) {
    Stream* const stream = stream_of(handle);
    stream->nodes.push_back(what);
    if (breaks_at("node " + std::to_string(stream->nodes.size()))) {
      stream->invalidated = true;
      failed(cudaErrorStreamCaptureUnsupported);
    }
    return true;
  }
  if (is_any_capturing()) {
    violation("work outside of the capturing stream, which the recording misses", demangled(what));
  }
  ++activity().kernels;
  return false;
}

// Runtime, cudaThreadExchangeStreamCaptureMode: while a stream is captured in global mode, potentially unsafe calls
// are forbidden for all threads whose own mode is not relaxed.
bool is_forbidden(const char* call) {
  if (thread_mode == cudaStreamCaptureModeRelaxed) {
    return false;
  }
  for (const Stream* stream : capturing()) {
    if (stream->mode == cudaStreamCaptureModeGlobal) {
      violation("Runtime, cudaStreamBeginCapture: potentially unsafe during a global capture", call);
      invalidate_all();
      return true;
    }
  }
  return false;
}

void invalidate_all() {
  for (Stream* stream : capturing()) {
    stream->invalidated = true;
  }
}

}  // namespace stand_in

using namespace stand_in;

extern "C" {

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  std::swap(*mode, thread_mode);
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  static unsigned long long captures = 0;
  const Lock lock(mutex());
  Stream* const stream = stream_of(handle);
  // Runtime, cudaStreamBeginCapture: not on the legacy stream.
  if (stream == nullptr) {
    violation("Runtime, cudaStreamBeginCapture: not on the legacy stream", "cudaStreamBeginCapture");
    return failed(cudaErrorStreamCaptureUnsupported);
  }
  if (stream->capture != 0) {
    return failed(cudaErrorIllegalState);
  }
  stream->capture = ++captures;
  stream->mode = mode;
  stream->invalidated = false;
  stream->nodes.clear();
  capturing().insert(stream);
  log("begin", {{"device", std::to_string(stream->device)}});
  return breaks_at("begin") ? failed(cudaErrorUnknown) : cudaSuccess;
}

// Runtime, cudaStreamEndCapture: an invalidated capture ends with an error and without a graph.
cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
  const Lock lock(mutex());
  Stream* const stream = stream_of(handle);
  *graph = nullptr;
  if (stream == nullptr || stream->capture == 0) {
    return failed(cudaErrorIllegalState);
  }
  const bool is_valid = !stream->invalidated && !breaks_at("end");
  stream->capture = 0;
  capturing().erase(stream);
  Counts nodes;
  for (const std::string& node : stream->nodes) {
    ++nodes[demangled(node)];
  }
  log("end",
      {{"valid", is_valid ? "true" : "false"},
       {"nodes", std::to_string(stream->nodes.size())},
       {"kernels", counts(nodes)}});
  if (!is_valid) {
    return failed(cudaErrorStreamCaptureInvalidated);
  }
  *graph = reinterpret_cast<cudaGraph_t>(new size_t(stream->nodes.size()));
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const Lock lock(mutex());
  *status = status_of(stream);
  return cudaSuccess;
}

cudaError_t cudaStreamGetCaptureInfo(
    cudaStream_t stream, cudaStreamCaptureStatus* status, unsigned long long* id, cudaGraph_t* graph,
    const cudaGraphNode_t** dependencies, const cudaGraphEdgeData** edges, size_t* count) {
  const Lock lock(mutex());
  *status = status_of(stream);
  if (id != nullptr && is_capturing(stream)) {
    *id = stream_of(stream)->capture;
  }
  if (graph != nullptr) {
    *graph = nullptr;
  }
  if (dependencies != nullptr) {
    *dependencies = nullptr;
  }
  if (edges != nullptr) {
    *edges = nullptr;
  }
  if (count != nullptr) {
    *count = 0;
  }
  return cudaSuccess;
}

}  // extern "C"
