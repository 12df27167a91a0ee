// Chooses the row of a table of kernels. A table has a row for each pair of a dtype and an instruction set. A
// row has a function for each operation.
//
// To add a dtype, add its `load` and `store` in simd.h, its rows in the table.h and kernels.cpp of each folder,
// and a case in `with_dtype` below.

#pragma once

#include "instruction_sets.h"

#include <ATen/Version.h>
#include <c10/core/ScalarType.h>

#include <initializer_list>
#include <string>
#include <type_traits>

namespace resnet {

// Calls work(Number()), where `Number` is the C++ type of the dtype. If the tables have no rows for the dtype,
// the result is empty.
template <class Work>
auto with_dtype(c10::ScalarType dtype, const Work& work) -> decltype(work(float())) {
  switch (dtype) {
    case c10::ScalarType::Float:
      return work(float());
    default:
      return {};
  }
}

// The dtype of a C++ type.
template <class Number>
constexpr c10::ScalarType dtype_of = c10::CppTypeToScalarType<Number>::value;

template <InstructionSet set>
using Constant = std::integral_constant<InstructionSet, set>;

// Calls work(Constant<set>()) with the widest possible instruction set. libtorch's own kernels must use this set or
// a wider one, and each number in `channels` must be a multiple of the set's vector length. If there is no such
// set, the result is empty. libtorch uses the widest set of the machine, unless the environment variable
// ATEN_CPU_CAPABILITY selects a smaller one.
template <class Work>
auto with_instruction_set(std::initializer_list<int64_t> channels, const Work& work)
    -> decltype(work(Constant<InstructionSet::avx2>())) {
  if constexpr (RESNET_HAS_KERNELS && sizeof(Work) > 0) {
    static const std::string libtorchs = at::get_cpu_capability();
    const auto fits = [&](InstructionSet set) {
      for (const int64_t count : channels) {
        if (count % lanes_of(set) != 0) {
          return false;
        }
      }
      return true;
    };
    const bool has_avx512 = libtorchs == "AVX512";
    if (has_avx512 && fits(InstructionSet::avx512)) {
      return work(Constant<InstructionSet::avx512>());
    }
    if ((has_avx512 || libtorchs == "AVX2") && fits(InstructionSet::avx2)) {
      return work(Constant<InstructionSet::avx2>());
    }
  }
  return {};
}

}  // namespace resnet
