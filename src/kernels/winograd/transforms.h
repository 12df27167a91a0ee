// The transforms of Winograd's minimal filtering (Lavin and Gray 2016), for a vector of channels at a time, in
// one dimension. A two-dimensional transform transforms the columns, and then the rows.
//
// F(m, 3) computes m neighbouring outputs of a filter with three taps from m + 2 products. With d the inputs, g
// the filter and y the outputs, y = Aᵀ [(G g) ⊙ (Bᵀ d)]. The adjoint operation gives the gradient of the
// filter: Gᵀ [(A ∂y) ⊙ (Bᵀ d)]. `stride` is the distance from one result to the next.

#pragma once

#include <cstdint>

namespace resnet::winograd {

// The points are 0, ±3/4, ±3/2 and infinity. In two dimensions, 16 outputs need 36 products; the direct
// algorithm needs 144. The rounding errors are half as large as with the usual points ±1 and ±2, for the same
// number of operations.
template <class Vec>
struct F4 {
  static constexpr int64_t outputs = 4, inputs = 6;

  // Bᵀ d
  static void input(const Vec* d, Vec* t, int64_t stride) {
    const Vec even_a = d[4] - b2 * d[2], odd_a = d[3] - b2 * d[1];
    const Vec even_b = d[4] - a2 * d[2], odd_b = d[3] - a2 * d[1];
    t[0] = a2 * b2 * d[0] - (a2 + b2) * d[2] + d[4];
    t[stride] = even_a + a * odd_a;
    t[2 * stride] = even_a - a * odd_a;
    t[3 * stride] = even_b + b * odd_b;
    t[4 * stride] = even_b - b * odd_b;
    t[5 * stride] = a2 * b2 * d[1] - (a2 + b2) * d[3] + d[5];
  }

  // Aᵀ m
  static void output(const Vec* m, Vec* y, int64_t stride) {
    const Vec even_a = m[1] + m[2], odd_a = m[1] - m[2];
    const Vec even_b = m[3] + m[4], odd_b = m[3] - m[4];
    y[0] = m[0] + even_a + even_b;
    y[stride] = a * odd_a + b * odd_b;
    y[2 * stride] = a2 * even_a + b2 * even_b;
    y[3 * stride] = a * a2 * odd_a + b * b2 * odd_b + m[5];
  }

  // A ∂y
  static void gradient(const Vec* y, Vec* t, int64_t stride) {
    const Vec even_a = y[0] + a2 * y[2], odd_a = y[1] + a2 * y[3];
    const Vec even_b = y[0] + b2 * y[2], odd_b = y[1] + b2 * y[3];
    t[0] = y[0];
    t[stride] = even_a + a * odd_a;
    t[2 * stride] = even_a - a * odd_a;
    t[3 * stride] = even_b + b * odd_b;
    t[4 * stride] = even_b - b * odd_b;
    t[5 * stride] = y[3];
  }

  // G g
  static void weight(const Vec* g, Vec* u, int64_t stride) {
    const Vec even_a = (g[0] + a2 * g[2]) * at_a, odd_a = g[1] * (a * at_a);
    const Vec even_b = (g[0] + b2 * g[2]) * at_b, odd_b = g[1] * (b * at_b);
    u[0] = g[0] * at_0;
    u[stride] = even_a + odd_a;
    u[2 * stride] = even_a - odd_a;
    u[3 * stride] = even_b + odd_b;
    u[4 * stride] = even_b - odd_b;
    u[5 * stride] = g[2];
  }

  // Gᵀ u
  static void weight_gradient(const Vec* u, Vec* g, int64_t stride) {
    const Vec even_a = (u[1] + u[2]) * at_a, odd_a = (u[1] - u[2]) * (a * at_a);
    const Vec even_b = (u[3] + u[4]) * at_b, odd_b = (u[3] - u[4]) * (b * at_b);
    g[0] = u[0] * at_0 + even_a + even_b;
    g[stride] = odd_a + odd_b;
    g[2 * stride] = a2 * even_a + b2 * even_b + u[5];
  }

 private:
  static constexpr float a = 0.75f, b = 1.5f, a2 = a * a, b2 = b * b;
  // 1 divided by the product of the differences between a point and the other points.
  static constexpr float at_0 = 1 / (a2 * b2);
  static constexpr float at_a = 1 / (2 * a2 * (a2 - b2)), at_b = 1 / (2 * b2 * (b2 - a2));
};

// The points are 0, 1, -1, 2 and infinity. 9 outputs need 25 products; the direct algorithm needs 81. This is
// useful for images whose sides are not multiples of four.
template <class Vec>
struct F3 {
  static constexpr int64_t outputs = 3, inputs = 5;

  static void input(const Vec* d, Vec* t, int64_t stride) {
    const Vec a = d[3] - d[1];
    t[0] = 2.f * (d[0] - d[2]) + a;
    t[stride] = d[3] - d[2] - 2.f * d[1];
    t[2 * stride] = d[3] - 3.f * d[2] + 2.f * d[1];
    t[3 * stride] = a;
    t[4 * stride] = d[4] - d[2] - 2.f * a;
  }

  static void output(const Vec* m, Vec* y, int64_t stride) {
    const Vec a = m[1] + m[2];
    y[0] = m[0] + a + m[3];
    y[stride] = m[1] - m[2] + 2.f * m[3];
    y[2 * stride] = a + 4.f * m[3] + m[4];
  }

  static void gradient(const Vec* y, Vec* t, int64_t stride) {
    const Vec a = y[0] + y[2];
    t[0] = y[0];
    t[stride] = a + y[1];
    t[2 * stride] = a - y[1];
    t[3 * stride] = y[0] + 2.f * y[1] + 4.f * y[2];
    t[4 * stride] = y[2];
  }

  static void weight(const Vec* g, Vec* u, int64_t stride) {
    const Vec a = g[0] + g[2];
    u[0] = g[0] * 0.5f;
    u[stride] = (a + g[1]) * -0.5f;
    u[2 * stride] = (a - g[1]) * (-1.f / 6);
    u[3 * stride] = g[0] * (1.f / 6) + g[1] * (1.f / 3) + g[2] * (2.f / 3);
    u[4 * stride] = g[2];
  }

  static void weight_gradient(const Vec* u, Vec* g, int64_t stride) {
    const Vec a = u[1] * -0.5f, b = u[2] * (-1.f / 6);
    g[0] = u[0] * 0.5f + a + b + u[3] * (1.f / 6);
    g[stride] = a - b + u[3] * (1.f / 3);
    g[2 * stride] = a + b + u[3] * (2.f / 3) + u[4];
  }
};

}  // namespace resnet::winograd
