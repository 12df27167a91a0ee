// cuBLAS and cuBLASLt. Products compute nothing.

#include "libraries.h"

#include <cstring>

using namespace stand_in;

#define PRODUCT(name)             \
  int name(void* handle, ...) {   \
    return compute(handle, #name); \
  }

extern "C" {

int cublasCreate_v2(void** handle) {
  return create_handle(handle, "cublasCreate");
}

int cublasSetStream_v2(void* handle, cudaStream_t stream) {
  return set_stream(handle, stream);
}

int cublasGetMathMode(void*, int* mode) {
  *mode = 0;
  return SUCCESS;
}

int cublasGetPointerMode_v2(void*, int* mode) {
  *mode = 0;
  return SUCCESS;
}

SUCCEEDS(cublasDestroy_v2)
SUCCEEDS(cublasSetMathMode)
SUCCEEDS(cublasSetPointerMode_v2)
SUCCEEDS(cublasSetWorkspace_v2)

PRODUCT(cublasSgemm_v2)
PRODUCT(cublasSgemmEx)
PRODUCT(cublasSgemv_v2)
PRODUCT(cublasSgemmStridedBatched)
PRODUCT(cublasGemmEx)
PRODUCT(cublasGemmStridedBatchedEx)

int cublasLtCreate(void** handle) {
  return create_handle(handle, "cublasLtCreate");
}

int cublasLtMatmulDescCreate(void** description, ...) {
  return create_description(description);
}

int cublasLtMatmulPreferenceCreate(void** description) {
  return create_description(description);
}

int cublasLtMatrixLayoutCreate(void** description, ...) {
  return create_description(description);
}

SUCCEEDS(cublasLtMatmulDescDestroy)
SUCCEEDS(cublasLtMatmulDescSetAttribute)
SUCCEEDS(cublasLtMatmulPreferenceDestroy)
SUCCEEDS(cublasLtMatmulPreferenceSetAttribute)
SUCCEEDS(cublasLtMatrixLayoutDestroy)
SUCCEEDS(cublasLtMatrixLayoutSetAttribute)

// One algorithm. Its description, a cublasLtMatmulHeuristicResult_t, takes 96 bytes.
int cublasLtMatmulAlgoGetHeuristic(
    void*, void*, void*, void*, void*, void*, void*, int, void* result, int* count) {
  memset(result, 0, 96);
  *count = 1;
  return SUCCESS;
}

int cublasLtMatmul(
    void*, void*, const void*, const void*, void*, const void*, void*, const void*, const void*, void*,
    void*, void*, const void*, void*, size_t, cudaStream_t stream) {
  const Lock lock(mutex());
  submit(stream, "cublasLtMatmul");
  return SUCCESS;
}

}  // extern "C"
