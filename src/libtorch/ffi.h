// The error protocol between C++ and Rust. No exception may cross into Rust, so each C function that can
// fail
//
// - returns null if it succeeded, else the error's text, which is valid until the thread's next error;
// - returns its results through out-parameters, and does not change them if it fails;
// - leaves an out-parameter null if it cannot compute the result, for example because a kernel does not
//   support a shape. This is a result and not an error.
//
// src/libtorch/ffi.rs is the other side.

#pragma once

#include <c10/util/Exception.h>

#include <exception>
#include <string>

namespace resnet {

// A copy of an error's text that lives until this thread's next error.
inline const char* kept_text(const char* text) noexcept {
  thread_local std::string kept;
  try {
    kept = text;
    return kept.c_str();
  } catch (...) {
    return "std::bad_alloc";
  }
}

// Does the work of a C function. Returns null if it succeeded, else the error's text.
template <class Work>
const char* guard(const Work& work) noexcept {
  try {
    work();
    return nullptr;
  } catch (const c10::Error& error) {
    return kept_text(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return kept_text(error.what());
  } catch (...) {
    return "an exception of an unknown type";
  }
}

}  // namespace resnet
