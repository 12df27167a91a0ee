// cuDNN: batch norm through its older functions, convolutions through its graph interface ("backend").

#include "libraries.h"

using namespace stand_in;

namespace {

constexpr size_t WORKSPACE = 64 << 10;

int workspace(size_t* bytes) {
  *bytes = WORKSPACE;
  return SUCCESS;
}

// ---- The graph interface (cuDNN API reference, "cudnn_graph library"). A descriptor is built of attributes, some
// of which are other descriptors. The stand-in only follows which kind of convolution a plan is made of.

// Values of cudnnBackendDescriptorType_t and of cudnnBackendAttributeType_t.
constexpr int FORWARD = 10, GRADIENT_OF_WEIGHT = 11, GRADIENT_OF_INPUT = 12;
constexpr int TYPE_INT64 = 3, TYPE_DESCRIPTOR = 15;

struct Descriptor {
  int type;
  std::string convolution;
};

std::string convolution_of(const Descriptor& descriptor) {
  switch (descriptor.type) {
    case FORWARD:
      return "cudnn convolution";
    case GRADIENT_OF_WEIGHT:
      return "cudnn convolution, gradient of the weight";
    case GRADIENT_OF_INPUT:
      return "cudnn convolution, gradient of the input";
    default:
      return descriptor.convolution;
  }
}

}  // namespace

extern "C" {

int cudnnCreate(void** handle) {
  return create_handle(handle, "cudnnCreate");
}

int cudnnSetStream(void* handle, cudaStream_t stream) {
  return set_stream(handle, stream);
}

int cudnnGetStream(void* handle, cudaStream_t* stream) {
  *stream = handle_of(handle)->stream;
  return SUCCESS;
}

int cudnnCreateTensorDescriptor(void** description) {
  return create_description(description);
}

int cudnnCreateFilterDescriptor(void** description) {
  return create_description(description);
}

SUCCEEDS(cudnnDestroyTensorDescriptor)
SUCCEEDS(cudnnSetTensorNdDescriptor)
SUCCEEDS(cudnnDestroyFilterDescriptor)
SUCCEEDS(cudnnSetFilterNdDescriptor)

int cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize(
    void*, int, int, void*, void*, void*, void*, void*, size_t* bytes) {
  return workspace(bytes);
}

int cudnnGetBatchNormalizationTrainingExReserveSpaceSize(void*, int, int, void*, void*, size_t* bytes) {
  return workspace(bytes);
}

int cudnnGetBatchNormalizationBackwardExWorkspaceSize(
    void*, int, int, void*, void*, void*, void*, void*, void*, void*, size_t* bytes) {
  return workspace(bytes);
}

int cudnnBatchNormalizationForwardTrainingEx(void* handle, ...) {
  return compute(handle, "cudnn batch norm");
}

int cudnnBatchNormalizationForwardInference(void* handle, ...) {
  return compute(handle, "cudnn batch norm, inference");
}

int cudnnBatchNormalizationBackwardEx(void* handle, ...) {
  return compute(handle, "cudnn batch norm, gradients");
}

int cudnnBackendCreateDescriptor(int type, void** descriptor) {
  *descriptor = new Descriptor{type, ""};
  return SUCCESS;
}

SUCCEEDS(cudnnBackendFinalize)
SUCCEEDS(cudnnBackendDestroyDescriptor)

int cudnnBackendSetAttribute(void* at, int, int type, int64_t count, const void* values) {
  if (type == TYPE_DESCRIPTOR) {
    for (int64_t i = 0; i < count; ++i) {
      const Descriptor* part = static_cast<Descriptor* const*>(values)[i];
      const std::string convolution = part == nullptr ? "" : convolution_of(*part);
      if (!convolution.empty()) {
        static_cast<Descriptor*>(at)->convolution = convolution;
      }
    }
  }
  return SUCCESS;
}

// Asked for descriptors, such as the engines that can compute a graph, it gives one. Asked for a number, such as the
// bytes of a workspace, it gives a small one.
int cudnnBackendGetAttribute(
    void* at, int, int type, int64_t wanted, int64_t* count, void* values) {
  const bool gives = values != nullptr && wanted > 0;
  if (type == TYPE_DESCRIPTOR) {
    if (gives) {
      static_cast<Descriptor**>(values)[0]->convolution = convolution_of(*static_cast<Descriptor*>(at));
    }
  } else if (type == TYPE_INT64 && gives && wanted == 1) {
    *static_cast<int64_t*>(values) = WORKSPACE;
  }
  if (count != nullptr) {
    *count = type == TYPE_DESCRIPTOR || (type == TYPE_INT64 && gives && wanted == 1);
  }
  return SUCCESS;
}

int cudnnBackendExecute(void* handle, void* plan, void*) {
  return compute(handle, convolution_of(*static_cast<Descriptor*>(plan)));
}

}  // extern "C"
