// The width of a panel for the instruction set that a file of kernels is compiled for.

#pragma once

#include "../simd.h"

namespace resnet::matrix {
namespace {

constexpr int64_t panel = 2 * lanes;

}  // namespace
}  // namespace resnet::matrix
