// The allocator of tensors on the CPU.

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/alignment.h>
#include <c10/util/Exception.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace {

constexpr size_t ALIGNMENT = c10::gAlignment;

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
      void* const memory = bytes <= SIZE_MAX - ALIGNMENT ? malloc(bytes + ALIGNMENT) : nullptr;
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

// For the tensors from here on.
void resnet_align_within_malloc() noexcept {
  static Aligning allocator;
  c10::SetCPUAllocator(&allocator, 1);
}

}  // extern "C"
