// The allocator of tensors on the CPU.

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
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

// What tensors leave to others where memory has a limit; else 0.
size_t reserve_bytes = 0;

// The end of malloc's memory when tensors last took some.
std::atomic<uintptr_t> heap_end{0};

uintptr_t current_heap_end() {
  return reinterpret_cast<uintptr_t>(sbrk(0));
}

// Whether others still find memory. What they took of the reserve is no reason to refuse a tensor that fits
// where another one was, so that the system is asked only when malloc's memory has grown.
bool leaves_reserve() {
  if (reserve_bytes == 0) {
    return true;
  }
  const uintptr_t end = current_heap_end();
  if (end <= heap_end.exchange(end, std::memory_order_relaxed)) {
    return true;
  }
  // Untouched, it costs no memory.
  void* const reserve =
      mmap(nullptr, reserve_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (reserve == MAP_FAILED) {
    return false;
  }
  munmap(reserve, reserve_bytes);
  return true;
}

// Memory of malloc; null where there is too little.
void* allocate_or_null(size_t bytes) {
  void* const memory = malloc(bytes);
  if (memory != nullptr && !leaves_reserve()) {
    free(memory);
    return nullptr;
  }
  return memory;
}

// What malloc gave lies in the word before a tensor's memory.
void free_aligned(void* data) {
  if (data != nullptr) {
    free(static_cast<void**>(data)[-1]);
  }
}

// Memory of malloc, of which a tensor takes what is behind the first aligned byte. libtorch's own allocator
// asks for aligned memory instead, and for that glibc wants a hole larger than the one that a tensor of the
// same size has left.
class Aligning final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    void* data = nullptr;
    if (bytes != 0) {
      void* const memory =
          bytes <= SIZE_MAX - ALIGNMENT ? allocate_or_null(bytes + ALIGNMENT) : nullptr;
      TORCH_CHECK(
          memory != nullptr, "can't allocate memory: you tried to allocate ", bytes, " bytes");
      // What malloc gives is aligned to two words, so that there is one before the next aligned byte.
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

// For the tensors from here on, which leave `reserve` bytes to others.
void resnet_align_within_malloc(size_t reserve) noexcept {
  reserve_bytes = reserve;
  static Aligning allocator;
  c10::SetCPUAllocator(&allocator, 1);
}

// Gives the system back what is free at the end of malloc's memory.
void resnet_release_free_memory() noexcept {
#ifdef __GLIBC__
  malloc_trim(0);
  heap_end = current_heap_end();
#endif
}

}  // extern "C"
