// Memory. A device's memory is the host's, which takes space only where it is written.

#include "state.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

namespace stand_in {
namespace {

constexpr size_t PAGE = 4096;

struct Block {
  size_t bytes;
  int device;
};

std::map<const char*, Block>& blocks() {
  static auto* const blocks = new std::map<const char*, Block>;
  return *blocks;
}

size_t used[MOST_DEVICES], peak[MOST_DEVICES];

const char* const KINDS[] = {"host to host", "host to device", "device to host", "device to device", "any"};

void count_copy(cudaMemcpyKind kind) {
  activity().copies_to_device += kind == cudaMemcpyHostToDevice;
  activity().copies_to_host += kind == cudaMemcpyDeviceToHost;
}

}  // namespace

std::vector<size_t> used_memory() {
  return {used, used + MOST_DEVICES};
}

std::vector<size_t> peak_memory() {
  return {peak, peak + MOST_DEVICES};
}

bool is_device_memory(const void* address) {
  const auto* at = static_cast<const char*>(address);
  auto block = blocks().upper_bound(at);
  return block != blocks().begin() && at < (--block)->first + block->second.bytes;
}

}  // namespace stand_in

using namespace stand_in;

extern "C" {

cudaError_t cudaMalloc(void** address, size_t bytes) {
  const Lock lock(mutex());
  if (is_forbidden("cudaMalloc")) {
    return failed(cudaErrorStreamCaptureUnsupported);
  }
  const int device = current_device();
  bytes = (bytes + PAGE - 1) / PAGE * PAGE;
  if (used[device] + bytes > device_memory()) {
    return failed(cudaErrorMemoryAllocation);
  }
  *address = mmap(
      nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (*address == MAP_FAILED) {
    return failed(cudaErrorMemoryAllocation);
  }
  blocks()[static_cast<char*>(*address)] = {bytes, device};
  used[device] += bytes;
  peak[device] = std::max(peak[device], used[device]);
  return cudaSuccess;
}

cudaError_t cudaFree(void* address) {
  const Lock lock(mutex());
  if (address == nullptr) {
    return cudaSuccess;
  }
  if (is_forbidden("cudaFree")) {
    return failed(cudaErrorStreamCaptureUnsupported);
  }
  const auto block = blocks().find(static_cast<char*>(address));
  if (block == blocks().end()) {
    violation("Runtime, cudaFree: the address must come from cudaMalloc", "cudaFree");
    return failed(cudaErrorInvalidValue);
  }
  munmap(address, block->second.bytes);
  used[block->second.device] -= block->second.bytes;
  blocks().erase(block);
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  const Lock lock(mutex());
  *total = device_memory();
  *free = *total - used[current_device()];
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* address) {
  const Lock lock(mutex());
  *attributes = {};
  attributes->type =
      is_device_memory(address) ? cudaMemoryTypeDevice : cudaMemoryTypeUnregistered;
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void** address, size_t bytes, unsigned) {
  *address = aligned_alloc(PAGE, (bytes + PAGE - 1) / PAGE * PAGE);
  return *address == nullptr ? failed(cudaErrorMemoryAllocation) : cudaSuccess;
}

cudaError_t cudaFreeHost(void* address) {
  free(address);
  return cudaSuccess;
}

// A recorded copy from or to the host would use the same host memory at each replay, and this program keeps none
// for it. So such a copy breaks a rule here, although CUDA can record some of them.
cudaError_t cudaMemcpyAsync(
    void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  const Lock lock(mutex());
  if (is_capturing(stream) && kind != cudaMemcpyDeviceToDevice) {
    violation("a recorded step copies nothing from or to the host", KINDS[kind]);
    invalidate_all();
    return failed(cudaErrorStreamCaptureUnsupported);
  }
  count_copy(kind);
  if (!submit(stream, std::string("copy, ") + KINDS[kind])) {
    memcpy(to, from, bytes);
  }
  // Kernels compute nothing, so what the program reads means nothing. One byte is the answer to a question, such as
  // whether all weights are finite, and the run goes on only if the answer is yes.
  if (kind == cudaMemcpyDeviceToHost && bytes == 1) {
    *static_cast<bool*>(to) = true;
  }
  return cudaSuccess;
}

// Guide, "Prohibited and Unhandled Operations": synchronous calls such as cudaMemcpy use the legacy stream.
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  const Lock lock(mutex());
  if (is_forbidden("cudaMemcpy")) {
    return failed(cudaErrorStreamCaptureImplicit);
  }
  count_copy(kind);
  ++activity().waits;
  memcpy(to, from, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  const Lock lock(mutex());
  if (!submit(stream, "fill")) {
    memset(to, value, bytes);
  }
  return cudaSuccess;
}

cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  const Lock lock(mutex());
  if (is_forbidden("cudaMemset")) {
    return failed(cudaErrorStreamCaptureImplicit);
  }
  memset(to, value, bytes);
  return cudaSuccess;
}

}  // extern "C"
