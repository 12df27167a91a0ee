// Shares work among libtorch's threads.
//
// at::parallel_for is a template that uses OpenMP's directives, so a program that calls it must be linked to an
// OpenMP runtime. But libtorch comes with its own OpenMP runtime, and the file name of that runtime differs
// between packages. The threads of two runtimes would compete for the processor. So this file uses the runtime
// that is already loaded, and looks up its functions by name.

#pragma once

#include <ATen/Parallel.h>

#include <dlfcn.h>

#include <algorithm>
#include <cstdint>

namespace resnet {

struct OpenMp {
  // The interface of GCC's libgomp. LLVM's and Intel's libraries have it too.
  void (*parallel)(void (*part)(void*), void* data, unsigned threads, unsigned flags);
  int (*thread)();
  int (*threads)();
  int (*is_parallel)();

  static const OpenMp& loaded() {
    static const OpenMp runtime = {
        find<decltype(parallel)>("GOMP_parallel"), find<decltype(thread)>("omp_get_thread_num"),
        find<decltype(threads)>("omp_get_num_threads"),
        find<decltype(is_parallel)>("omp_in_parallel")};
    return runtime;
  }

  bool is_there() const {
    return parallel != nullptr && thread != nullptr && threads != nullptr && is_parallel != nullptr;
  }

  // Whether work can be shared among as many threads as libtorch uses. If not, libtorch's own operations are
  // faster.
  static bool serves() {
    return at::get_num_threads() == 1 || loaded().is_there();
  }

 private:
  template <class Function>
  static Function find(const char* name) {
    return reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
  }
};

// Divides [0, count) into ranges, and calls part(thread, first, last) for each range on a separate thread. If
// there are no other threads, this thread does all the work. `part` must not throw.
template <class Part>
void in_parallel(int64_t count, const Part& part) {
  const OpenMp& runtime = OpenMp::loaded();
  const int64_t threads = std::min<int64_t>(count, at::get_num_threads());
  if (threads <= 1 || !runtime.is_there() || runtime.is_parallel() != 0) {
    part(0, 0, count);
    return;
  }
  struct Work {
    int64_t count;
    const Part* part;
  } work = {count, &part};
  runtime.parallel(
      [](void* data) {
        const auto& work = *static_cast<const Work*>(data);
        const OpenMp& runtime = OpenMp::loaded();
        const int64_t thread = runtime.thread(), threads = runtime.threads();
        const int64_t first = work.count * thread / threads;
        const int64_t last = work.count * (thread + 1) / threads;
        if (first < last) {
          (*work.part)(thread, first, last);
        }
      },
      &work, static_cast<unsigned>(threads), 0);
}

}  // namespace resnet
