// The instruction sets that the kernels are compiled for (build.rs).
//
// A file of kernels is compiled once for each set. Apart from its rows of the table it defines everything in an
// anonymous namespace, also inline functions: of those the linker keeps one copy for the whole program, and
// the copy for another set might not run on this processor.

#pragma once

#include <cstdint>

namespace resnet {

enum class InstructionSet { avx2, avx512 };

// 32-bit floats in a vector. The kernels compute in 32 bits whatever the dtype in memory, and need channels
// that are a multiple of this.
constexpr int64_t lanes_of(InstructionSet set) {
  return set == InstructionSet::avx512 ? 16 : 8;
}

}  // namespace resnet
