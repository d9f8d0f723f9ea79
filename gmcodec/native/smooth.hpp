// SPDX-License-Identifier: MIT
// exp and log in floating point, with the same result on every machine: they use only + - * / and shifts, in a fixed
// order, and nothing fused.  Those of the C library differ from system to system.
#pragma once

#include "simd.hpp"

namespace gm::GM_ISA {

constexpr double TO_INTEGER = 0x1.8p52; // adding it rounds to an integer, and leaves that integer in the lowest bits
constexpr double LN2 = 0x1.62e42fefa39efp-1;
constexpr double LN2_HIGH = 0x1.62e42feep-1, LN2_LOW = 0x1.a39ef35793c76p-33; // LN2_HIGH times an exponent is exact

// e**x = 2**k * e**r with |r| <= ln(2) / 2; e**r is a Taylor series.  The relative error is below 1e-14.  x is clamped
// to
// +-700.
GM_INLINE Reals exponential(Reals x) {
  x = clamp(x, splat(-700), splat(700));
  Reals shifted = x * (1 / LN2) + TO_INTEGER, k = shifted - TO_INTEGER;
  Reals r = x - k * LN2_HIGH - k * LN2_LOW, r2 = r * r, r4 = r2 * r2;
  // three parts that the processor can compute side by side
  Reals low = 1 + r + r2 * (1 / 2. + r * (1 / 6.));
  Reals middle = 1 / 24. + r * (1 / 120.) + r2 * (1 / 720. + r * (1 / 5040.));
  Reals high = 1 / 40320. + r * (1 / 362880.) + r2 * (1 / 3628800. + r * (1 / 39916800.));
  Mask power = ((Mask)shifted << 52) + (Mask)splat(1);
  return (low + r4 * (middle + r4 * high)) * (Reals)power;
}

// log(x) = e * log(2) + log(m) with m from sqrt(1/2) to sqrt(2); log(m) = 2 artanh((m - 1) / (m + 1)) is a power
// series. The error is below 1e-14.  x must be positive, finite and normal.
GM_INLINE Reals logarithm(Reals x) {
  const Mask bits = (Mask)x, root = (Mask)splat(0x1.6a09e667f3bcdp-1);
  const Mask exponent = (bits - root) >> 52;
  Reals e = (Reals)((Mask)splat(TO_INTEGER) + exponent) - TO_INTEGER;
  Reals m = (Reals)(bits - (exponent << 52)), s = (m - 1) / (m + 1), z = s * s;
  Reals series = splat(1 / 17.);
  for (double odd = 15; odd > 0; odd -= 2)
    series = series * z + 1 / odd;
  return e * LN2 + 2 * s * series;
}

} // namespace gm::GM_ISA
