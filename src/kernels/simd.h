// Vectors of floats in the width of the instruction set that a file of kernels is compiled for (build.rs).

#pragma once

#include <cstdint>

namespace resnet {
namespace {

constexpr int64_t lanes = RESNET_LANES;

using Vec = float __attribute__((vector_size(lanes * sizeof(float))));
// One in an array of floats.
using Floats = float __attribute__((vector_size(lanes * sizeof(float)), aligned(4), may_alias));

inline Vec load(const float* from) {
  return *reinterpret_cast<const Floats*>(from);
}

inline void store(float* to, Vec vector) {
  *reinterpret_cast<Floats*>(to) = vector;
}

// The larger of each number and zero; a NaN stays one.
inline Vec relu(Vec vector) {
  return vector < 0.f ? Vec{} : vector;
}

}  // namespace
}  // namespace resnet
