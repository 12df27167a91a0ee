// The instruction sets that the kernels are compiled for (build.rs).
//
// A file of kernels is compiled once for each set. It defines everything in an anonymous namespace, except its
// rows of the table. This includes inline functions: outside an anonymous namespace, the linker would keep one
// copy of them for the whole program, and this copy might need an instruction set that the processor does not
// have.

#pragma once

#include <cstdint>

namespace resnet {

enum class InstructionSet { avx2, avx512 };

// Number of 32-bit floats in a vector. The kernels compute in 32 bits for every dtype in memory. The number of
// channels must be a multiple of this number.
constexpr int64_t lanes_of(InstructionSet set) {
  return set == InstructionSet::avx512 ? 16 : 8;
}

}  // namespace resnet
