// Graphs: what a capture has recorded, and its replays. A graph is represented by its number of nodes.

#include "state.h"

namespace stand_in {

namespace {

size_t* nodes_of(cudaGraph_t graph) {
  return reinterpret_cast<size_t*>(graph);
}

}  // namespace
}  // namespace stand_in

using namespace stand_in;

extern "C" {

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t*, size_t* count) {
  *count = *nodes_of(graph);
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiateWithFlags(
    cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  const Lock lock(mutex());
  if (breaks_at("instantiate")) {
    return failed(cudaErrorMemoryAllocation);
  }
  *executable = reinterpret_cast<cudaGraphExec_t>(new size_t(*nodes_of(graph)));
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete nodes_of(graph);
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  const Lock lock(mutex());
  delete reinterpret_cast<size_t*>(executable);
  log("destroy", {});
  return cudaSuccess;
}

// What the program did since the last replay is logged with each replay.
cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t stream) {
  const Lock lock(mutex());
  const Activity before = activity();
  activity() = {};
  const int device = stream_of(stream) == nullptr ? current_device() : stream_of(stream)->device;
  log("replay",
      {{"device", std::to_string(device)},
       {"kernels", std::to_string(before.kernels)},
       {"copies_to_device", std::to_string(before.copies_to_device)},
       {"copies_to_host", std::to_string(before.copies_to_host)},
       {"waits", std::to_string(before.waits)}});
  return cudaSuccess;
}

}  // extern "C"
