// The number formats of the kernels, and vectors of 16 bytes, which a thread loads and stores at once. Kernels compute
// in 32-bit floats. Compiled by NVRTC, which has no header of its own, so the conversions are written out.

// bfloat16: the upper half of a 32-bit float.
struct Bf16 {
  unsigned short bits;
};

// Half float (IEEE 754 binary16).
struct Fp16 {
  unsigned short bits;
};

__device__ inline float to_float(float number) {
  return number;
}

__device__ inline float to_float(Bf16 number) {
  return __uint_as_float(unsigned(number.bits) << 16);
}

__device__ inline float to_float(Fp16 number) {
  return half_to_float(number.bits);
}

__device__ inline void store(float& to, float number) {
  to = number;
}

// Rounds to the nearest number, and to the even one of two that are equally near.
__device__ inline void store(Bf16& to, float number) {
  const unsigned bits = __float_as_uint(number);
  const bool is_nan = number != number;
  to.bits = is_nan ? 0x7fc0 : (unsigned short)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

__device__ inline void store(Fp16& to, float number) {
  to.bits = float_to_half(number);
}

// Neighbouring channels of a pixel.
template <class Number>
struct alignas(16) Vector {
  static constexpr int count = 16 / int(sizeof(Number));
  Number numbers[count];
};

template <class Number>
__device__ inline Vector<Number> load(const Number* from, long vector) {
  return reinterpret_cast<const Vector<Number>*>(from)[vector];
}

template <class Number>
__device__ inline void save(Number* to, long vector, const Vector<Number>& numbers) {
  reinterpret_cast<Vector<Number>*>(to)[vector] = numbers;
}
