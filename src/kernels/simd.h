// Vectors of floats. Their width depends on the instruction set that a file of kernels is compiled for
// (build.rs).

#pragma once

#include "instruction_sets.h"

#include <cstdint>

namespace resnet {
namespace {

constexpr int64_t lanes = lanes_of(InstructionSet::RESNET_INSTRUCTION_SET);

// The kernels compute in 32 bits. `load` and `store` convert between 32-bit floats and each dtype in memory.
using Vec = float __attribute__((vector_size(lanes * sizeof(float))));

// A vector at any address in an array of floats.
using Floats = float __attribute__((vector_size(lanes * sizeof(float)), aligned(4), may_alias));

inline Vec load(const float* from) {
  return *reinterpret_cast<const Floats*>(from);
}

inline void store(float* to, Vec vector) {
  *reinterpret_cast<Floats*>(to) = vector;
}

// The larger of each number and zero. A NaN stays NaN.
inline Vec relu(Vec vector) {
  return vector < 0.f ? Vec{} : vector;
}

}  // namespace
}  // namespace resnet
