// CUDA graphs: a step's kernels, recorded once and then started in one call. No exception crosses into
// Rust: a function answers with what went wrong, which lasts until the thread's next call, or null.
//
// libtorch_cuda is opened by name (docs/decisions/0002), and the header of its at::cuda::CUDAGraph wants
// CUDA's own, which no libtorch comes with. So that class is declared here as far as it is used, and its
// functions are looked up by the names that the compiler gave them (docs/decisions/0017). All else about
// streams and memory libtorch offers for any device.

#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>

#include <dlfcn.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <string>

namespace {

// Of CUDA's cudaStreamCaptureMode: no thread may do what a recording does not allow.
constexpr int CAPTURE_MODE_GLOBAL = 0;

#define CLASS "_ZN2at4cuda9CUDAGraph"

// at::cuda::CUDAGraph's functions, with the object that they are called on as the first argument, which is
// how C++ passes it on Linux.
struct Functions {
  void (*construct)(void*, bool keep_graph);
  void (*destroy)(void*);
  void (*capture_begin)(void*, c10::MempoolId_t, int mode);
  void (*capture_end)(void*);
  void (*replay)(void*);
  // CUDA's own, of a cudaStream_t.
  int (*begin_capture)(void* stream, int mode);

  Functions() {
    void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
    TORCH_CHECK(library != nullptr, "libtorch_cuda is not loaded");
    find(library, CLASS "C1Eb", construct);
    find(library, CLASS "D1Ev", destroy);
    find(library, CLASS "13capture_beginESt4pairIyyE21cudaStreamCaptureMode", capture_begin);
    find(library, CLASS "11capture_endEv", capture_end);
    find(library, CLASS "6replayEv", replay);
    find(library, "cudaStreamBeginCapture", begin_capture);
  }

 private:
  template <typename Function>
  static void find(void* library, const char* symbol, Function*& function) {
    function = reinterpret_cast<Function*>(dlsym(library, symbol));
    TORCH_CHECK(function != nullptr, "libtorch_cuda has no ", symbol);
  }
};

const Functions& functions() {
  static const Functions functions;
  return functions;
}

// An at::cuda::CUDAGraph, which is smaller by far than the room for it here.
class CudaGraph {
 public:
  CudaGraph() {
    functions().construct(object_, false);
  }

  CudaGraph(const CudaGraph&) = delete;
  CudaGraph& operator=(const CudaGraph&) = delete;

  ~CudaGraph() {
    functions().destroy(object_);
  }

  void capture_begin() {
    functions().capture_begin(object_, {0, 0}, CAPTURE_MODE_GLOBAL);
  }

  void capture_end() {
    functions().capture_end(object_);
  }

  void replay() {
    functions().replay(object_);
  }

 private:
  alignas(std::max_align_t) std::byte object_[1024];
};

// A graph, and as long as it is recorded the stream of its own on which that happens.
class Recording {
 public:
  explicit Recording(c10::DeviceIndex index) {
    const c10::impl::VirtualGuardImpl cuda(c10::DeviceType::CUDA);
    // What earlier steps left in the cache is of no use to a recording, whose memory is a pool of its own.
    cuda.synchronizeDevice(index);
    c10::getDeviceAllocator(c10::DeviceType::CUDA)->emptyCache();
    stream_.emplace(cuda.getStreamFromGlobalPool({c10::DeviceType::CUDA, index}));
    graph_.capture_begin();
  }

  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  ~Recording() {
    if (stream_) {
      try {
        end();
      } catch (const std::exception&) {
        // It was broken off because it had failed.
      }
    }
  }

  void end() {
    try {
      graph_.capture_end();
    } catch (const std::exception&) {
      give_back();
      stream_.reset();
      throw;
    }
    stream_.reset();
  }

  void replay() {
    graph_.replay();
  }

 private:
  // Where CUDA has broken a recording off, libtorch 2.11 stops at its error, and would neither give the pool
  // back nor end the state of recording. It does after a recording of nothing.
  void give_back() {
    try {
      const c10::impl::VirtualGuardImpl cuda(c10::DeviceType::CUDA);
      void* const stream = cuda.getStreamNativeHandle(stream_->current_stream());
      TORCH_CHECK(functions().begin_capture(stream, CAPTURE_MODE_GLOBAL) == 0);
      graph_.capture_end();
    } catch (const std::exception&) {
      // The error that came first is the one to tell.
    }
  }

  CudaGraph graph_;
  std::optional<c10::StreamGuard> stream_;
};

template <typename Work>
const char* problem_of(Work work) noexcept {
  thread_local std::string problem;
  try {
    work();
    return nullptr;
  } catch (const c10::Error& error) {
    problem = error.what_without_backtrace();
  } catch (const std::exception& error) {
    problem = error.what();
  }
  return problem.c_str();
}

}  // namespace

extern "C" {

// Whether this libtorch can record graphs.
const char* resnet_graph_support() noexcept {
  return problem_of([] { functions(); });
}

// Begins to record what this thread has the device `index` do, which then does not do it; the caller owns
// the recording.
const char* resnet_graph_begin(int8_t index, void** recording) noexcept {
  return problem_of([&] { *recording = new Recording(index); });
}

const char* resnet_graph_end(void* recording) noexcept {
  return problem_of([&] { static_cast<Recording*>(recording)->end(); });
}

// Has the device do what was recorded, after all that it was told before.
const char* resnet_graph_replay(void* recording) noexcept {
  return problem_of([&] { static_cast<Recording*>(recording)->replay(); });
}

// Ends it if it is under way.
void resnet_graph_free(void* recording) noexcept {
  delete static_cast<Recording*>(recording);
}

}  // extern "C"
