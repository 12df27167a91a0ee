// CUDA graphs: the kernels of a step are recorded once and then started by one call.
//
// libtorch_cuda is opened by name (docs/decisions/0002). The header of its class at::cuda::CUDAGraph includes
// CUDA's headers, which do not come with libtorch. So this file looks up the functions of that class by their
// mangled names (docs/decisions/0017). For streams and memory it uses libtorch's interface for any device.

#include "../libtorch/ffi.h"

#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>

#include <dlfcn.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>

namespace {

// cudaStreamCaptureModeGlobal of CUDA: some calls are forbidden for all threads during a recording.
constexpr int CAPTURE_MODE_GLOBAL = 0;

#define CLASS "_ZN2at4cuda9CUDAGraph"

// The member functions of at::cuda::CUDAGraph. The object is the first argument, as in the C++ ABI of Linux.
struct Functions {
  void (*construct)(void*, bool keep_graph);
  void (*destroy)(void*);
  void (*capture_begin)(void*, c10::MempoolId_t, int mode);
  void (*capture_end)(void*);
  void (*replay)(void*);
  void (*clear_workspaces)();
  // cudaStreamBeginCapture of CUDA; `stream` is a cudaStream_t.
  int (*begin_capture)(void* stream, int mode);

  Functions() {
    void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
    TORCH_CHECK(library != nullptr, "libtorch_cuda is not loaded");
    find(library, CLASS "C1Eb", construct);
    find(library, CLASS "D1Ev", destroy);
    find(library, CLASS "13capture_beginESt4pairIyyE21cudaStreamCaptureMode", capture_begin);
    find(library, CLASS "11capture_endEv", capture_end);
    find(library, CLASS "6replayEv", replay);
    find(library, "_ZN2at4cuda21clearCublasWorkspacesEv", clear_workspaces);
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

// An at::cuda::CUDAGraph. It takes 104 bytes in libtorch 2.11, far less than the array here.
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

// Receives libtorch's warnings while it lives.
class NoWarnings final : c10::WarningHandler {
 public:
  void process(const c10::Warning&) override {}

 private:
  c10::WarningUtils::WarningHandlerGuard guard_{this};
};

// A graph. During the recording, it also holds the stream on which the graph is recorded.
class Recording {
 public:
  explicit Recording(c10::DeviceIndex index) {
    const c10::impl::VirtualGuardImpl cuda(c10::DeviceType::CUDA);
    // Also sets the current device. Where libtorch's functions take no device, they use the current one, and a
    // device that is used once keeps a context with its memory.
    stream_.emplace(cuda.getStreamFromGlobalPool({c10::DeviceType::CUDA, index}));
    // A recording has its own pool of memory, and cannot use the memory that earlier steps left in libtorch's
    // cache.
    cuda.synchronizeDevice(index);
    c10::getDeviceAllocator(c10::DeviceType::CUDA)->emptyCache();
    try {
      graph_.emplace();
      graph_->capture_begin();
    } catch (const std::exception&) {
      // libtorch fails after CUDA has begun too.
      abandon();
      throw;
    }
  }

  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  ~Recording() {
    abandon();
  }

  void end() {
    graph_->capture_end();
    stream_.reset();
  }

  void replay() {
    graph_->replay();
  }

 private:
  // Ends the recording if it has not ended, and gives all its memory back. An error on the way is not reported: if a
  // recording is abandoned because of an error, that error is already known.
  void abandon() noexcept {
    if (stream_ && graph_) {
      const NoWarnings empty_graph;
      ignore_errors([&] { end_early(); });
    }
    ignore_errors([&] {
      graph_.reset();
      stream_.reset();
      // During a recording, cuBLAS gets its workspace from the recording's pool. libtorch keeps it for each stream
      // for the rest of the process, and with it the pool.
      functions().clear_workspaces();
      c10::getDeviceAllocator(c10::DeviceType::CUDA)->emptyCache();
    });
  }

  // If CUDA has ended a recording early, libtorch 2.11 returns with CUDA's error. It then neither frees the pool nor
  // leaves the recording state. After an empty recording, it does both, so this makes an empty recording.
  void end_early() {
    try {
      graph_->capture_end();
    } catch (const std::exception&) {
      const c10::impl::VirtualGuardImpl cuda(c10::DeviceType::CUDA);
      void* const stream = cuda.getStreamNativeHandle(stream_->current_stream());
      TORCH_CHECK(functions().begin_capture(stream, CAPTURE_MODE_GLOBAL) == 0);
      graph_->capture_end();
    }
  }

  template <class Work>
  static void ignore_errors(const Work& work) noexcept {
    try {
      work();
    } catch (const std::exception&) {
    }
  }

  std::optional<CudaGraph> graph_;
  std::optional<c10::StreamGuard> stream_;
};

}  // namespace

extern "C" {

// Succeeds if this libtorch can record graphs.
const char* resnet_graph_support() noexcept {
  return resnet::guard([] { functions(); });
}

// Begins to record the work that this thread gives to the device `index`. The device does not do this work yet.
// The caller owns the recording.
const char* resnet_graph_begin(int8_t index, void** recording) noexcept {
  return resnet::guard([&] { *recording = new Recording(index); });
}

const char* resnet_graph_end(void* recording) noexcept {
  return resnet::guard([&] { static_cast<Recording*>(recording)->end(); });
}

// Starts the recorded work, after all work that the device received earlier.
const char* resnet_graph_replay(void* recording) noexcept {
  return resnet::guard([&] { static_cast<Recording*>(recording)->replay(); });
}

// Frees a recording. If it has not ended yet, it is ended first.
void resnet_graph_free(void* recording) noexcept {
  delete static_cast<Recording*>(recording);
}

}  // extern "C"
