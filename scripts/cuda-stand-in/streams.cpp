// Streams, events, and waiting for them. Work is done at once, so nothing ever has to be waited for.

#include "state.h"

namespace stand_in {
namespace {

// Handles below this number are the legacy and the per-thread default stream (cudaStreamLegacy is 1,
// cudaStreamPerThread is 2).
constexpr uintptr_t FIRST_POINTER = 16;

// An event that was recorded in a capture belongs to that capture (Guide, "Cross-stream Dependencies and Events").
struct Event {
  Stream* captured_in = nullptr;
};

Event* event_of(cudaEvent_t handle) {
  return reinterpret_cast<Event*>(handle);
}

bool is_captured(cudaEvent_t handle) {
  const Stream* stream = event_of(handle)->captured_in;
  return stream != nullptr && stream->capture != 0;
}

}  // namespace

Stream* stream_of(cudaStream_t handle) {
  return reinterpret_cast<uintptr_t>(handle) < FIRST_POINTER ? nullptr
                                                             : reinterpret_cast<Stream*>(handle);
}

}  // namespace stand_in

using namespace stand_in;

extern "C" {

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* handle, unsigned, int) {
  auto* const stream = new Stream;
  stream->device = current_device();
  *handle = reinterpret_cast<cudaStream_t>(stream);
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t) {
  return cudaSuccess;
}

// Guide, "Prohibited and Unhandled Operations": it is invalid to wait for a stream that is being captured, or for
// a broader handle, such as the device, while any of its streams is being captured.
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const Lock lock(mutex());
  ++activity().waits;
  if (is_capturing(stream) || (is_any_capturing() && stream_of(stream) == nullptr)) {
    violation("Guide, Prohibited and Unhandled Operations: waiting", "cudaStreamSynchronize");
    invalidate_all();
    return failed(cudaErrorStreamCaptureUnsupported);
  }
  return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  const Lock lock(mutex());
  if (is_capturing(stream)) {
    violation("Guide, Prohibited and Unhandled Operations: querying", "cudaStreamQuery");
    invalidate_all();
    return failed(cudaErrorStreamCaptureUnsupported);
  }
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  const Lock lock(mutex());
  ++activity().waits;
  return is_forbidden("cudaDeviceSynchronize") ? failed(cudaErrorStreamCaptureUnsupported)
                                               : cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* handle, unsigned) {
  *handle = reinterpret_cast<cudaEvent_t>(new Event);
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* handle) {
  return cudaEventCreateWithFlags(handle, 0);
}

cudaError_t cudaEventDestroy(cudaEvent_t handle) {
  delete event_of(handle);
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t handle, cudaStream_t stream) {
  const Lock lock(mutex());
  event_of(handle)->captured_in = is_capturing(stream) ? stream_of(stream) : nullptr;
  return cudaSuccess;
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t handle, cudaStream_t stream, unsigned) {
  return cudaEventRecord(handle, stream);
}

cudaError_t cudaEventQuery(cudaEvent_t handle) {
  const Lock lock(mutex());
  if (is_captured(handle)) {
    violation("Guide, Prohibited and Unhandled Operations: querying a captured event", "cudaEventQuery");
    return failed(cudaErrorCapturedEvent);
  }
  return is_forbidden("cudaEventQuery") ? failed(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
  const Lock lock(mutex());
  ++activity().waits;
  if (is_captured(handle)) {
    violation(
        "Guide, Prohibited and Unhandled Operations: waiting for a captured event", "cudaEventSynchronize");
    return failed(cudaErrorCapturedEvent);
  }
  return is_forbidden("cudaEventSynchronize") ? failed(cudaErrorStreamCaptureUnsupported)
                                              : cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
  *milliseconds = 1;
  return cudaSuccess;
}

// Guide, "Cross-stream Dependencies and Events": a stream that waits for a captured event joins the capture. Work
// of this program is given to one stream only, so that would be a mistake.
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t handle, unsigned) {
  const Lock lock(mutex());
  if (is_captured(handle) && !is_capturing(stream)) {
    violation("another stream joins the capture", "cudaStreamWaitEvent");
    invalidate_all();
    return failed(cudaErrorStreamCaptureImplicit);
  }
  return cudaSuccess;
}

}  // extern "C"
