// The CUDA kernels, compiled for the host. Blocks run one after the other. The threads of a block are contexts that
// take turns: each runs until it waits for the others.

#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

struct Dimensions {
  unsigned x = 1, y = 1;
};

static Dimensions threadIdx, blockIdx, blockDim, gridDim;

#define __device__
#define __global__
#define __launch_bounds__(threads)
// Shared memory keeps its values between blocks, which kernels may not rely on, but never loses them either.
#define __shared__ static

static unsigned __float_as_uint(float number) {
  unsigned bits;
  memcpy(&bits, &number, sizeof bits);
  return bits;
}

static float __uint_as_float(unsigned bits) {
  float number;
  memcpy(&number, &bits, sizeof number);
  return number;
}

// Half floats by arithmetic: 10 bits of fraction, exponents from -14 to 15.
static float half_to_float(unsigned short bits) {
  const float sign = bits & 0x8000 ? -1.0f : 1.0f;
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  if (exponent == 31) {
    return fraction != 0 ? NAN : sign * INFINITY;
  }
  return sign *
      (exponent == 0 ? std::ldexp(float(fraction), -24)
                     : std::ldexp(float(1024 + fraction), exponent - 25));
}

static unsigned short float_to_half(float number) {
  const unsigned short sign = std::signbit(number) ? 0x8000 : 0;
  const float size = std::fabs(number);
  if (std::isnan(number)) {
    return 0x7e00;
  }
  if (size == 0) {
    return sign;
  }
  if (size >= 65520.0f) {
    return sign | 0x7c00;
  }
  int exponent = 0;
  std::frexp(size, &exponent);
  // The distance between two neighbours.
  const int unit = std::max(exponent - 11, -24);
  const int count = int(std::nearbyint(std::ldexp(size, -unit)));
  if (unit == -24) {
    return sign | (unsigned short)count;
  }
  return sign | (unsigned short)(((unit + 24) << 10) + count);
}

static unsigned atomicAdd(unsigned* to, unsigned number) {
  const unsigned before = *to;
  *to += number;
  return before;
}

static void __threadfence() {}

// ---- Threads

namespace {

constexpr size_t STACK = 64 << 10;

ucontext_t scheduler;
std::vector<ucontext_t> contexts;
std::vector<bool> finished;
size_t current;
const std::vector<void*>* kernel_arguments;
void (*kernel_body)(void**);

void run_thread() {
  kernel_body(const_cast<void**>(kernel_arguments->data()));
  finished[current] = true;
  swapcontext(&contexts[current], &scheduler);
}

}  // namespace

static void __syncthreads() {
  const Dimensions place = threadIdx;
  swapcontext(&contexts[current], &scheduler);
  threadIdx = place;
}

#include "../../src/kernels/cuda/numbers.cuh"

namespace batch_norm {
#include "../../src/kernels/cuda/batch_norm.cu"
#undef KERNELS
}  // namespace batch_norm

namespace max_pool {
#include "../../src/kernels/cuda/max_pool.cu"
#undef KERNELS
}  // namespace max_pool

// ---- Launches

namespace {

// Calls a kernel with the arguments that the pointers point to.
template <auto kernel, class... Argument, size_t... place>
void call(void (*)(Argument...), void** arguments, std::index_sequence<place...>) {
  kernel(*static_cast<Argument*>(arguments[place])...);
}

template <class... Argument>
constexpr size_t count_of(void (*)(Argument...)) {
  return sizeof...(Argument);
}

template <auto kernel>
void body(void** arguments) {
  call<kernel>(kernel, arguments, std::make_index_sequence<count_of(kernel)>());
}

struct Kernel {
  void (*body)(void**);
  size_t arguments;
};

#define ROW(space, name) \
  { #name, {&body<&space::name>, count_of(&space::name)} }
#define ROWS(suffix)                                                                    \
  ROW(batch_norm, moments_##suffix), ROW(batch_norm, apply_##suffix),                   \
      ROW(batch_norm, gradient_sums_##suffix), ROW(batch_norm, input_gradient_##suffix), \
      ROW(max_pool, max_pool_##suffix), ROW(max_pool, max_pool_gradient_##suffix)

const std::map<std::string, Kernel> kernels = {ROWS(fp32), ROWS(bf16), ROWS(fp16)};

void run_block(const std::vector<char>& stacks) {
  const size_t threads = blockDim.x * blockDim.y;
  contexts.assign(threads, {});
  finished.assign(threads, false);
  for (size_t i = 0; i < threads; ++i) {
    getcontext(&contexts[i]);
    contexts[i].uc_stack.ss_sp = const_cast<char*>(stacks.data()) + i * STACK;
    contexts[i].uc_stack.ss_size = STACK;
    contexts[i].uc_link = &scheduler;
    makecontext(&contexts[i], run_thread, 0);
  }
  for (bool is_any_left = true; is_any_left;) {
    is_any_left = false;
    for (size_t i = 0; i < threads; ++i) {
      if (!finished[i]) {
        current = i;
        threadIdx = {unsigned(i % blockDim.x), unsigned(i / blockDim.x)};
        swapcontext(&scheduler, &contexts[i]);
        is_any_left = is_any_left || !finished[i];
      }
    }
  }
}

}  // namespace

extern "C" int launch(
    const char* name, int64_t blocks_x, int64_t blocks_y, int64_t threads_x, int64_t threads_y,
    void** arguments) {
  const auto kernel = kernels.find(name);
  if (kernel == kernels.end()) {
    return 1;
  }
  const std::vector<void*> list(arguments, arguments + kernel->second.arguments);
  kernel_arguments = &list;
  kernel_body = kernel->second.body;
  gridDim = {unsigned(blocks_x), unsigned(blocks_y)};
  blockDim = {unsigned(threads_x), unsigned(threads_y)};
  static const std::vector<char> stacks(256 * STACK);
  for (unsigned y = 0; y < gridDim.y; ++y) {
    for (unsigned x = 0; x < gridDim.x; ++x) {
      blockIdx = {x, y};
      run_block(stacks);
    }
  }
  return 0;
}
