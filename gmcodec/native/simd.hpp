// SPDX-License-Identifier: MIT
// The vectors of this instruction set.  All code that depends on the processor is in this file.
//
// Pairs   int32 sums of products of pairs of int16, several columns at once: for matrices (product.hpp)
// Reals   vectors of float64.  In exact code each number is an integer below 2**53 times a power of two, so every
//         operation is exact and every instruction set computes the same numbers.  Vectors of int64 would be exact
//         too, but most processors can neither multiply nor shift them.
//
// Nothing here may include the C++ library: of an inline function that is compiled for several instruction sets, the
// linker keeps one copy for all of them.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized" // gcc 12 warns about its own headers
#endif
#if defined(__AVX512VNNI__) || defined(__AVX2__) || defined(__SSE4_1__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

// The portable build uses no vector instructions, even where the compiler may.
#if !defined(GM_PORTABLE) && defined(__AVX512VNNI__) && defined(__AVX512VL__)
#define GM_AVX512 1
#elif !defined(GM_PORTABLE) && defined(__AVX2__)
#define GM_AVX2 1
#elif !defined(GM_PORTABLE) && defined(__SSE4_1__)
#define GM_SSE4 1
#elif !defined(GM_PORTABLE) && defined(__ARM_NEON) && defined(__aarch64__)
#define GM_NEON 1
#endif

#define GM_INLINE static inline __attribute__((always_inline))
#define GM_INLINE_MEMBER inline __attribute__((always_inline))

namespace gm::GM_ISA {

template <typename T> GM_INLINE constexpr T smaller(T a, T b) { return a < b ? a : b; }
template <typename T> GM_INLINE constexpr T larger(T a, T b) { return a > b ? a : b; }
template <typename T> GM_INLINE constexpr T clamp(T value, T low, T high) { return smaller(larger(value, low), high); }
GM_INLINE constexpr int round_up(int count, int multiple) { return (count + multiple - 1) / multiple * multiple; }

// -- Pairs: sums[i] += weight[2 i] * x[0] + weight[2 i + 1] * x[1] -------------------------------------------------

#if GM_AVX512
constexpr int SUMS = 16;                               // columns in a vector
constexpr int REGISTER_ROWS = 8, REGISTER_VECTORS = 3; // sums that fit the registers at once
typedef __m512i Sums;
typedef __m512i Weights;
GM_INLINE Sums no_sums() { return _mm512_setzero_si512(); }
GM_INLINE Weights load_weights(const int16_t *at) { return _mm512_loadu_si512(at); }
GM_INLINE Sums add_pair(Sums sums, Weights weights, int32_t x) {
  return _mm512_dpwssd_epi32(sums, weights, _mm512_set1_epi32(x));
}
GM_INLINE void store_sums(int32_t *at, Sums sums) { _mm512_storeu_si512(at, sums); }
#elif GM_AVX2
constexpr int SUMS = 8;
constexpr int REGISTER_ROWS = 4, REGISTER_VECTORS = 3;
typedef __m256i Sums;
typedef __m256i Weights;
GM_INLINE Sums no_sums() { return _mm256_setzero_si256(); }
GM_INLINE Weights load_weights(const int16_t *at) { return _mm256_loadu_si256((const __m256i *)at); }
GM_INLINE Sums add_pair(Sums sums, Weights weights, int32_t x) {
  return _mm256_add_epi32(sums, _mm256_madd_epi16(weights, _mm256_set1_epi32(x)));
}
GM_INLINE void store_sums(int32_t *at, Sums sums) { _mm256_storeu_si256((__m256i *)at, sums); }
#elif GM_SSE4
constexpr int SUMS = 4;
constexpr int REGISTER_ROWS = 4, REGISTER_VECTORS = 3;
typedef __m128i Sums;
typedef __m128i Weights;
GM_INLINE Sums no_sums() { return _mm_setzero_si128(); }
GM_INLINE Weights load_weights(const int16_t *at) { return _mm_loadu_si128((const __m128i *)at); }
GM_INLINE Sums add_pair(Sums sums, Weights weights, int32_t x) {
  return _mm_add_epi32(sums, _mm_madd_epi16(weights, _mm_set1_epi32(x)));
}
GM_INLINE void store_sums(int32_t *at, Sums sums) { _mm_storeu_si128((__m128i *)at, sums); }
#elif GM_NEON
constexpr int SUMS = 4;
constexpr int REGISTER_ROWS = 4, REGISTER_VECTORS = 4;
typedef int32x4_t Sums;
typedef int16x4x2_t Weights; // the first weights of all pairs, then the second ones
GM_INLINE Sums no_sums() { return vdupq_n_s32(0); }
GM_INLINE Weights load_weights(const int16_t *at) { return vld2_s16(at); }
GM_INLINE Sums add_pair(Sums sums, Weights weights, int32_t x) {
  int16x4_t pair = vreinterpret_s16_s32(vdup_n_s32(x));
  return vmlal_lane_s16(vmlal_lane_s16(sums, weights.val[0], pair, 0), weights.val[1], pair, 1);
}
GM_INLINE void store_sums(int32_t *at, Sums sums) { vst1q_s32(at, sums); }
#else
constexpr int SUMS = 4;
constexpr int REGISTER_ROWS = 4, REGISTER_VECTORS = 2;
struct Sums {
  int32_t value[SUMS];
};
struct Weights {
  int16_t value[2 * SUMS];
};
GM_INLINE Sums no_sums() { return Sums{}; }
GM_INLINE Weights load_weights(const int16_t *at) {
  Weights weights;
  memcpy(&weights, at, sizeof weights);
  return weights;
}
GM_INLINE Sums add_pair(Sums sums, Weights weights, int32_t x) {
  int16_t pair[2];
  memcpy(pair, &x, sizeof pair);
  for (int i = 0; i < SUMS; ++i)
    sums.value[i] += weights.value[2 * i] * pair[0] + weights.value[2 * i + 1] * pair[1];
  return sums;
}
GM_INLINE void store_sums(int32_t *at, Sums sums) { memcpy(at, &sums, sizeof sums); }
#endif

// -- Reals -------------------------------------------------------------------------------------------------------

#if GM_AVX512
constexpr int REALS = 8;
#elif GM_AVX2
constexpr int REALS = 4;
#else
constexpr int REALS = 2;
#endif
constexpr int MAX_REALS = 8; // the largest REALS of any instruction set: arrays of Reals have a multiple of it

typedef double Reals __attribute__((vector_size(8 * REALS)));
typedef int64_t Mask __attribute__((vector_size(8 * REALS)));
typedef float Floats __attribute__((vector_size(4 * REALS)));
typedef int32_t Integers __attribute__((vector_size(4 * REALS)));
typedef int16_t Shorts __attribute__((vector_size(2 * REALS)));

template <typename V, typename T> GM_INLINE V load(const T *at) {
  V value;
  memcpy(&value, at, sizeof value);
  return value;
}
template <typename V, typename T> GM_INLINE void store(T *at, V value) { memcpy(at, &value, sizeof value); }

// A vector of equal elements.
GM_INLINE Reals splat(double value) { return Reals{} + value; }
GM_INLINE Reals reals(Integers value) { return __builtin_convertvector(value, Reals); }
#if GM_AVX512
GM_INLINE Reals reals(Floats value) {
  return _mm512_maskz_cvtps_pd(255, (__m256)value);
} // gcc would convert two halves
#else
GM_INLINE Reals reals(Floats value) { return __builtin_convertvector(value, Reals); }
#endif

#if GM_AVX512
GM_INLINE Reals floor(Reals x) { return _mm512_roundscale_pd(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
GM_INLINE Reals minimum(Reals a, Reals b) { return _mm512_min_pd(a, b); }
GM_INLINE Reals maximum(Reals a, Reals b) { return _mm512_max_pd(a, b); }
GM_INLINE Reals times_plus(Reals a, Reals b, Reals c) { return _mm512_fmadd_pd(a, b, c); }
GM_INLINE Integers floor_to_integers(Reals x) {
  return (Integers)_mm512_cvt_roundpd_epi32(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}
GM_INLINE Reals look_up(const int32_t *table, Reals index) {
  return _mm512_cvtepi32_pd(_mm256_i32gather_epi32(table, _mm512_cvttpd_epi32(index), 4));
}
#else
#if GM_AVX2
GM_INLINE Reals floor(Reals x) { return _mm256_floor_pd(x); }
GM_INLINE Reals minimum(Reals a, Reals b) { return _mm256_min_pd(a, b); }
GM_INLINE Reals maximum(Reals a, Reals b) { return _mm256_max_pd(a, b); }
GM_INLINE Reals times_plus(Reals a, Reals b, Reals c) { return _mm256_fmadd_pd(a, b, c); }
GM_INLINE Reals look_up(const int32_t *table, Reals index) {
  return _mm256_cvtepi32_pd(_mm_i32gather_epi32(table, _mm256_cvttpd_epi32(index), 4));
}
#else
#if GM_SSE4
GM_INLINE Reals floor(Reals x) { return _mm_floor_pd(x); }
GM_INLINE Reals minimum(Reals a, Reals b) { return _mm_min_pd(a, b); }
GM_INLINE Reals maximum(Reals a, Reals b) { return _mm_max_pd(a, b); }
#elif GM_NEON
GM_INLINE Reals floor(Reals x) { return (Reals)vrndmq_f64((float64x2_t)x); }
GM_INLINE Reals minimum(Reals a, Reals b) { return (Reals)vminq_f64((float64x2_t)a, (float64x2_t)b); }
GM_INLINE Reals maximum(Reals a, Reals b) { return (Reals)vmaxq_f64((float64x2_t)a, (float64x2_t)b); }
#else
GM_INLINE Reals floor(Reals x) { return Reals{__builtin_floor(x[0]), __builtin_floor(x[1])}; }
GM_INLINE Reals minimum(Reals a, Reals b) { return Reals{smaller(a[0], b[0]), smaller(a[1], b[1])}; }
GM_INLINE Reals maximum(Reals a, Reals b) { return Reals{larger(a[0], b[0]), larger(a[1], b[1])}; }
#endif
GM_INLINE Reals times_plus(Reals a, Reals b, Reals c) { return a * b + c; }
GM_INLINE Reals look_up(const int32_t *table, Reals index) {
  return Reals{(double)table[(int32_t)index[0]], (double)table[(int32_t)index[1]]};
}
#endif
GM_INLINE Integers floor_to_integers(Reals x) { return __builtin_convertvector(floor(x), Integers); }
#endif

GM_INLINE Reals clamp(Reals x, Reals low, Reals high) { return minimum(maximum(x, low), high); }
GM_INLINE Integers clamp(Integers x, int32_t low, int32_t high) {
  x = x > low ? x : Integers{} + low;
  return x < high ? x : Integers{} + high;
}
GM_INLINE double sum(Reals x) { // of exact integers, so the order does not matter
  double total = 0;
  for (int i = 0; i < REALS; ++i)
    total += x[i];
  return total;
}

} // namespace gm::GM_ISA
