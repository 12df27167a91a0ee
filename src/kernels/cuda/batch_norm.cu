// Batch norm in training with the sum and the ReLU after it, on a CUDA device, in two kernels forward and two backward
// (docs/decisions/0021). src/kernels/batch_norm/kernels.cpp has the same for CPUs.
//
// Images are channels-last: `rows` pixels of `channels` numbers. A thread has one vector of channels and goes through
// some rows. A block has `blockDim.x` vectors, and `blockDim.y` rows at a time. `blockIdx.y` is the block's place among
// the channels, and `blockIdx.x` its part of the rows.

constexpr int most_threads = 256;

// The thread's vector of channels, and its rows.
struct Place {
  int vector, vectors;
  long row, step;

  __device__ Place(int channels, int count)
      : vector(int(blockIdx.y * blockDim.x + threadIdx.x)),
        vectors(channels / count),
        row(long(blockIdx.x) * blockDim.y + threadIdx.y),
        step(long(gridDim.x) * blockDim.y) {}

  __device__ bool is_inside() const {
    return vector < vectors;
  }

  __device__ long at(long row) const {
    return row * vectors + vector;
  }
};

// Sums two numbers of each channel over the rows of the block, and writes them to the block's part of `partial`
// [parts, 2, channels]. Returns whether this block is the last one of its channels, which can then read all parts
// (CUDA C++ Programming Guide, "Memory Fence Functions"). `arrived` counts the blocks, and is 0 again afterwards.
template <int count>
__device__ bool sum_block(
    const float (&first)[count], const float (&second)[count], int channels, float* partial,
    unsigned* arrived) {
  __shared__ float shared[2 * count * most_threads];
  __shared__ bool is_last;
  const int threads = int(blockDim.x * blockDim.y);
  const int thread = int(threadIdx.y * blockDim.x + threadIdx.x);
  for (int i = 0; i < count; ++i) {
    shared[2 * i * threads + thread] = first[i];
    shared[(2 * i + 1) * threads + thread] = second[i];
  }
  for (int half = int(blockDim.y) / 2; half > 0; half /= 2) {
    __syncthreads();
    if (int(threadIdx.y) < half) {
      for (int i = 0; i < 2 * count; ++i) {
        shared[i * threads + thread] += shared[i * threads + thread + half * int(blockDim.x)];
      }
    }
  }
  const Place place(channels, count);
  if (threadIdx.y == 0 && place.is_inside()) {
    for (int i = 0; i < count; ++i) {
      float* const to = partial + 2L * blockIdx.x * channels + place.vector * count + i;
      to[0] = shared[2 * i * threads + thread];
      to[channels] = shared[(2 * i + 1) * threads + thread];
    }
  }
  __threadfence();
  __syncthreads();
  if (thread == 0) {
    is_last = atomicAdd(&arrived[blockIdx.y], 1u) == gridDim.x - 1;
    if (is_last) {
      arrived[blockIdx.y] = 0;
    }
  }
  __syncthreads();
  return is_last;
}

// Adds up the parts of all blocks, always in the same order, and calls use(channel, first sum, second sum) once for
// each channel of the block.
template <int count, class Use>
__device__ void merge(int channels, const float* partial, const Use& use) {
  __shared__ double shared[2 * most_threads];
  const volatile float* const parts = partial;
  const int threads = int(blockDim.x * blockDim.y);
  const int thread = int(threadIdx.y * blockDim.x + threadIdx.x);
  const int width = int(blockDim.x) * count;
  const int slices = threads / width > 0 ? threads / width : 1;
  // Each round takes as many channels as there are threads for.
  for (int start = 0; start < width; start += threads) {
    const int column = start + thread % (width < threads ? width : threads);
    const int slice = width < threads ? thread / width : 0;
    const int channel = int(blockIdx.y) * width + column;
    const bool is_used = slice < slices && column < width && channel < channels;
    double first = 0, second = 0;
    if (is_used) {
      for (int part = slice; part < int(gridDim.x); part += slices) {
        first += parts[2L * part * channels + channel];
        second += parts[(2L * part + 1) * channels + channel];
      }
    }
    __syncthreads();
    shared[2 * thread] = first;
    shared[2 * thread + 1] = second;
    __syncthreads();
    if (is_used && slice == 0) {
      for (int other = 1; other < slices; ++other) {
        first += shared[2 * (other * width + column - start)];
        second += shared[2 * (other * width + column - start) + 1];
      }
      use(channel, first, second);
    }
  }
}

// Mean and deviation of each channel, and with them the map of batch norm: y = x · scale + shift. Moves the running
// statistics, unless they are null. The sums are of the distance from the first row, so that a large mean does not cost
// the variance its digits.
template <class Number>
__device__ void moments(
    const Number* x, long rows, int channels, const float* weight, const float* bias, float momentum,
    float epsilon, float* running_mean, float* running_variance, float* partial, unsigned* arrived,
    float* mean, float* deviation, float* scale, float* shift) {
  constexpr int count = Vector<Number>::count;
  const Place place(channels, count);
  float sum[count] = {}, squares[count] = {};
  if (place.is_inside()) {
    const Vector<Number> origin = load(x, place.vector);
    for (long row = place.row; row < rows; row += place.step) {
      const Vector<Number> numbers = load(x, place.at(row));
      for (int i = 0; i < count; ++i) {
        const float distance = to_float(numbers.numbers[i]) - to_float(origin.numbers[i]);
        sum[i] += distance;
        squares[i] += distance * distance;
      }
    }
  }
  if (!sum_block<count>(sum, squares, channels, partial, arrived)) {
    return;
  }
  merge<count>(channels, partial, [&](int channel, double total, double total_of_squares) {
    const double offset = total / double(rows);
    const double found = total_of_squares / double(rows) - offset * offset;
    const double variance = found > 0 ? found : 0;
    const float center = float(to_float(x[channel]) + offset);
    const float factor = float(1 / sqrt(variance + double(epsilon)));
    mean[channel] = center;
    deviation[channel] = factor;
    scale[channel] = weight[channel] * factor;
    shift[channel] = bias[channel] - center * weight[channel] * factor;
    if (running_mean != nullptr) {
      const float unbiased = float(variance * double(rows) / double(rows - 1));
      running_mean[channel] += momentum * (center - running_mean[channel]);
      running_variance[channel] += momentum * (unbiased - running_variance[channel]);
    }
  });
}

// y = x · scale + shift, plus `other` unless it is null, then ReLU if `relu`.
template <class Number>
__device__ void apply(
    const Number* x, const Number* other, long rows, int channels, const float* scale,
    const float* shift, bool relu, Number* y) {
  constexpr int count = Vector<Number>::count;
  const Place place(channels, count);
  if (!place.is_inside()) {
    return;
  }
  float factor[count], offset[count];
  for (int i = 0; i < count; ++i) {
    factor[i] = scale[place.vector * count + i];
    offset[i] = shift[place.vector * count + i];
  }
  for (long row = place.row; row < rows; row += place.step) {
    const Vector<Number> numbers = load(x, place.at(row));
    Vector<Number> added = {}, result;
    if (other != nullptr) {
      added = load(other, place.at(row));
    }
    for (int i = 0; i < count; ++i) {
      float number = to_float(numbers.numbers[i]) * factor[i] + offset[i];
      if (other != nullptr) {
        number += to_float(added.numbers[i]);
      }
      // Written so that a NaN stays one.
      store(result.numbers[i], relu && number < 0 ? 0 : number);
    }
    save(y, place.at(row), result);
  }
}

// Whether the gradient passes the ReLU: where its output is above 0. With `output` null, the output follows from x.
template <class Number>
__device__ inline bool passes(
    bool relu, const Number* output, const Vector<Number>& outputs, int i, float number, float scale,
    float shift) {
  return !relu || (output != nullptr ? to_float(outputs.numbers[i]) > 0 : number * scale + shift > 0);
}

// The gradients of weight and bias, and the map of the second kernel: ∂x = ∂y · scale + x · slope + offset. Writes the
// gradient behind the ReLU to `masked` unless that is null.
template <class Number>
__device__ void gradient_sums(
    const Number* gradient, const Number* x, const Number* output, long rows, int channels,
    const float* mean, const float* deviation, const float* scale, const float* shift, bool relu,
    float* partial, unsigned* arrived, Number* masked, float* of_weight, float* of_bias, float* slope,
    float* offset) {
  constexpr int count = Vector<Number>::count;
  const Place place(channels, count);
  float sum[count] = {}, products[count] = {};
  if (place.is_inside()) {
    float center[count], factor[count], start[count];
    for (int i = 0; i < count; ++i) {
      center[i] = mean[place.vector * count + i];
      factor[i] = scale[place.vector * count + i];
      start[i] = shift[place.vector * count + i];
    }
    for (long row = place.row; row < rows; row += place.step) {
      Vector<Number> gradients = load(gradient, place.at(row));
      const Vector<Number> numbers = load(x, place.at(row));
      Vector<Number> outputs = {};
      if (output != nullptr) {
        outputs = load(output, place.at(row));
      }
      for (int i = 0; i < count; ++i) {
        const float number = to_float(numbers.numbers[i]);
        if (!passes(relu, output, outputs, i, number, factor[i], start[i])) {
          store(gradients.numbers[i], 0);
        }
        const float passed = to_float(gradients.numbers[i]);
        sum[i] += passed;
        products[i] += passed * (number - center[i]);
      }
      if (masked != nullptr) {
        save(masked, place.at(row), gradients);
      }
    }
  }
  if (!sum_block<count>(sum, products, channels, partial, arrived)) {
    return;
  }
  merge<count>(channels, partial, [&](int channel, double total, double total_of_products) {
    const double factor = double(deviation[channel]);
    const double tilt =
        -double(scale[channel]) * factor * factor * total_of_products / double(rows);
    of_weight[channel] = float(total_of_products * factor);
    of_bias[channel] = float(total);
    slope[channel] = float(tilt);
    offset[channel] =
        float(-double(scale[channel]) * total / double(rows) - tilt * double(mean[channel]));
  });
}

// ∂x = ∂y · scale + x · slope + offset, where ∂y is masked by the ReLU if `relu`.
template <class Number>
__device__ void input_gradient(
    const Number* gradient, const Number* x, const Number* output, long rows, int channels,
    const float* scale, const float* shift, bool relu, const float* slope, const float* offset,
    Number* result) {
  constexpr int count = Vector<Number>::count;
  const Place place(channels, count);
  if (!place.is_inside()) {
    return;
  }
  float factor[count], start[count], tilt[count], constant[count];
  for (int i = 0; i < count; ++i) {
    factor[i] = scale[place.vector * count + i];
    start[i] = shift[place.vector * count + i];
    tilt[i] = slope[place.vector * count + i];
    constant[i] = offset[place.vector * count + i];
  }
  for (long row = place.row; row < rows; row += place.step) {
    const Vector<Number> gradients = load(gradient, place.at(row));
    const Vector<Number> numbers = load(x, place.at(row));
    Vector<Number> outputs = {}, results;
    if (output != nullptr) {
      outputs = load(output, place.at(row));
    }
    for (int i = 0; i < count; ++i) {
      const float number = to_float(numbers.numbers[i]);
      const bool is_passed = passes(relu, output, outputs, i, number, factor[i], start[i]);
      const float passed = is_passed ? to_float(gradients.numbers[i]) : 0;
      store(results.numbers[i], passed * factor[i] + number * tilt[i] + constant[i]);
    }
    save(result, place.at(row), results);
  }
}

#define KERNELS(name, Number)                                                                          \
  extern "C" __global__ void __launch_bounds__(most_threads) moments_##name(                           \
      const Number* x, long rows, int channels, const float* weight, const float* bias,                \
      float momentum, float epsilon, float* running_mean, float* running_variance, float* partial,     \
      unsigned* arrived, float* mean, float* deviation, float* scale, float* shift) {                  \
    moments(x, rows, channels, weight, bias, momentum, epsilon, running_mean, running_variance,        \
            partial, arrived, mean, deviation, scale, shift);                                          \
  }                                                                                                    \
  extern "C" __global__ void __launch_bounds__(most_threads) apply_##name(                             \
      const Number* x, const Number* other, long rows, int channels, const float* scale,               \
      const float* shift, bool relu, Number* y) {                                                      \
    apply(x, other, rows, channels, scale, shift, relu, y);                                            \
  }                                                                                                    \
  extern "C" __global__ void __launch_bounds__(most_threads) gradient_sums_##name(                     \
      const Number* gradient, const Number* x, const Number* output, long rows, int channels,          \
      const float* mean, const float* deviation, const float* scale, const float* shift, bool relu,    \
      float* partial, unsigned* arrived, Number* masked, float* of_weight, float* of_bias,             \
      float* slope, float* offset) {                                                                   \
    gradient_sums(gradient, x, output, rows, channels, mean, deviation, scale, shift, relu, partial,   \
                  arrived, masked, of_weight, of_bias, slope, offset);                                 \
  }                                                                                                    \
  extern "C" __global__ void __launch_bounds__(most_threads) input_gradient_##name(                    \
      const Number* gradient, const Number* x, const Number* output, long rows, int channels,          \
      const float* scale, const float* shift, bool relu, const float* slope, const float* offset,      \
      Number* result) {                                                                                \
    input_gradient(gradient, x, output, rows, channels, scale, shift, relu, slope, offset, result);    \
  }

KERNELS(fp32, float)
KERNELS(bf16, Bf16)
KERNELS(fp16, Fp16)
