// The allocator of tensors on the CPU, and the peak of memory on a CUDA device.

#include "ffi.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/alignment.h>
#include <c10/util/Exception.h>

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace {

constexpr size_t ALIGNMENT = c10::gAlignment;

// Bytes that tensors leave free for other allocations if memory has a limit, else 0.
size_t reserve_bytes = 0;

// The end of malloc's heap when a tensor was last allocated.
std::atomic<uintptr_t> heap_end{0};

uintptr_t current_heap_end() {
  return reinterpret_cast<uintptr_t>(sbrk(0));
}

// Whether the reserve is still free. Other allocations may already have used a part of it. If the heap
// of malloc has not grown, the tensor needed no new memory, so the check is skipped.
bool leaves_reserve() {
  if (reserve_bytes == 0) {
    return true;
  }
  const uintptr_t end = current_heap_end();
  if (end <= heap_end.exchange(end, std::memory_order_relaxed)) {
    return true;
  }
  // A mapping that is never written to takes no memory.
  void* const reserve =
      mmap(nullptr, reserve_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (reserve == MAP_FAILED) {
    return false;
  }
  munmap(reserve, reserve_bytes);
  return true;
}

// Memory from malloc; null if there is too little.
void* allocate_or_null(size_t bytes) {
  void* const memory = malloc(bytes);
  if (memory != nullptr && !leaves_reserve()) {
    free(memory);
    return nullptr;
  }
  return memory;
}

// The word before a tensor's memory holds the pointer that malloc returned.
void free_aligned(void* data) {
  if (data != nullptr) {
    free(static_cast<void**>(data)[-1]);
  }
}

// Takes more memory from malloc than the tensor needs and aligns within it. libtorch's own allocator asks
// malloc for aligned memory instead; glibc then needs a larger free block than the one that a freed tensor
// of the same size has left (docs/decisions/0012).
class Aligning final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    void* data = nullptr;
    if (bytes != 0) {
      void* const memory =
          bytes <= SIZE_MAX - ALIGNMENT ? allocate_or_null(bytes + ALIGNMENT) : nullptr;
      TORCH_CHECK(
          memory != nullptr, "can't allocate memory: you tried to allocate ", bytes, " bytes");
      // malloc aligns to two words, so there is always a word before the next aligned byte.
      const auto address = reinterpret_cast<uintptr_t>(memory);
      data = reinterpret_cast<void*>((address / ALIGNMENT + 1) * ALIGNMENT);
      static_cast<void**>(data)[-1] = memory;
    }
    return {data, data, &free_aligned, c10::DeviceType::CPU};
  }

  c10::DeleterFnPtr raw_deleter() const override {
    return &free_aligned;
  }

  void copy_data(void* to, const void* from, size_t bytes) const override {
    std::memcpy(to, from, bytes);
  }
};

}  // namespace

extern "C" {

// Installs the allocator for all later tensors. They leave `reserve` bytes free for other allocations.
void resnet_align_within_malloc(size_t reserve) noexcept {
  reserve_bytes = reserve;
  static Aligning allocator;
  c10::SetCPUAllocator(&allocator, 1);
}

// Returns malloc's free memory to the system.
void resnet_release_free_memory() noexcept {
#ifdef __GLIBC__
  malloc_trim(0);
  heap_end = current_heap_end();
#endif
}

// The most bytes that libtorch has reserved on a CUDA device so far.
const char* resnet_peak_cuda_memory(int8_t index, uint64_t* bytes) noexcept {
  return resnet::guard([&] {
    const auto stats = c10::getDeviceAllocator(c10::DeviceType::CUDA)->getDeviceStats(index);
    const auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    *bytes = stats.reserved_bytes[all].peak;
  });
}

}  // extern "C"
