// Max pooling on a CUDA device (docs/decisions/0021). For the backward pass it keeps one byte for each output: the place
// of the largest number in its window. libtorch keeps a 64-bit index.
//
// Images are channels-last. A thread computes one vector of channels of one pixel.

// The windows of an image: squares of `kernel` pixels, `stride` apart; the first begins `padding` before the image.
struct Windows {
  int height, width, out_height, out_width, kernel, stride, padding;
};

// A vector of an image [N, height, width, vectors].
struct Pixel {
  int image, row, column;
  bool is_inside;

  __device__ Pixel(int images, int height, int width, int vectors) {
    const long thread = long(blockIdx.x) * blockDim.x + threadIdx.x;
    const long pixel = thread / vectors;
    column = int(pixel % width);
    row = int(pixel / width % height);
    image = int(pixel / width / height);
    is_inside = image < images;
  }
};

__device__ inline long index(int image, int row, int column, int vector, int height, int width, int vectors) {
  return ((long(image) * height + row) * width + column) * vectors + vector;
}

// As in PyTorch, the first of equal numbers is the largest, and a NaN is larger than every number.
template <class Number>
__device__ void max_pool(
    const Number* x, int images, int channels, Windows windows, Number* y, unsigned char* places) {
  constexpr int count = Vector<Number>::count;
  const int vectors = channels / count;
  const int vector = int((long(blockIdx.x) * blockDim.x + threadIdx.x) % vectors);
  const Pixel pixel(images, windows.out_height, windows.out_width, vectors);
  if (!pixel.is_inside) {
    return;
  }
  const int top = pixel.row * windows.stride - windows.padding;
  const int left = pixel.column * windows.stride - windows.padding;
  float largest[count];
  unsigned char place[count];
  bool is_first = true;
  for (int i = top < 0 ? -top : 0; i < windows.kernel && top + i < windows.height; ++i) {
    for (int j = left < 0 ? -left : 0; j < windows.kernel && left + j < windows.width; ++j) {
      const Vector<Number> numbers = load(
          x, index(pixel.image, top + i, left + j, vector, windows.height, windows.width, vectors));
      for (int c = 0; c < count; ++c) {
        const float number = to_float(numbers.numbers[c]);
        if (is_first || number > largest[c] || number != number) {
          largest[c] = number;
          place[c] = (unsigned char)(i * windows.kernel + j);
        }
      }
      is_first = false;
    }
  }
  const long at = index(
      pixel.image, pixel.row, pixel.column, vector, windows.out_height, windows.out_width, vectors);
  Vector<Number> result;
  for (int c = 0; c < count; ++c) {
    store(result.numbers[c], largest[c]);
    places[at * count + c] = place[c];
  }
  save(y, at, result);
}

// The gradient of a pixel is the sum of the gradients of the windows whose largest number it is. A thread looks at all
// windows that have its pixel, so no two threads write to the same place, and the sum has a fixed order.
template <class Number>
__device__ void max_pool_gradient(
    const Number* gradient, const unsigned char* places, int images, int channels, Windows windows,
    Number* result) {
  constexpr int count = Vector<Number>::count;
  const int vectors = channels / count;
  const int vector = int((long(blockIdx.x) * blockDim.x + threadIdx.x) % vectors);
  const Pixel pixel(images, windows.height, windows.width, vectors);
  if (!pixel.is_inside) {
    return;
  }
  float sum[count] = {};
  const int row = pixel.row + windows.padding, column = pixel.column + windows.padding;
  const int first_row = row < windows.kernel ? 0 : (row - windows.kernel) / windows.stride + 1;
  const int first_column =
      column < windows.kernel ? 0 : (column - windows.kernel) / windows.stride + 1;
  for (int i = first_row; i * windows.stride <= row && i < windows.out_height; ++i) {
    for (int j = first_column; j * windows.stride <= column && j < windows.out_width; ++j) {
      const int place =
          (row - i * windows.stride) * windows.kernel + (column - j * windows.stride);
      const long at = index(pixel.image, i, j, vector, windows.out_height, windows.out_width, vectors);
      const Vector<Number> gradients = load(gradient, at);
      for (int c = 0; c < count; ++c) {
        if (places[at * count + c] == place) {
          sum[c] += to_float(gradients.numbers[c]);
        }
      }
    }
  }
  Vector<Number> sums;
  for (int c = 0; c < count; ++c) {
    store(sums.numbers[c], sum[c]);
  }
  save(result, index(pixel.image, pixel.row, pixel.column, vector, windows.height, windows.width, vectors),
       sums);
}

#define KERNELS(name, Number)                                                                        \
  extern "C" __global__ void max_pool_##name(                                                        \
      const Number* x, int images, int channels, Windows windows, Number* y, unsigned char* places) { \
    max_pool(x, images, channels, windows, y, places);                                               \
  }                                                                                                  \
  extern "C" __global__ void max_pool_gradient_##name(                                               \
      const Number* gradient, const unsigned char* places, int images, int channels,                 \
      Windows windows, Number* result) {                                                             \
    max_pool_gradient(gradient, places, images, channels, windows, result);                          \
  }

KERNELS(fp32, float)
KERNELS(bf16, Bf16)
KERNELS(fp16, Fp16)
