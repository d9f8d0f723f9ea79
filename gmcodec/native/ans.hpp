// SPDX-License-Identifier: MIT
// The ANS stack of coding/stack.py, one symbol at a time.  State, words and precision have 64, 32 and 24 bits, so the
// words are the same as constriction's.
#pragma once

#include "simd.hpp"

namespace gm::GM_ISA {

constexpr int TOTAL_BITS = 24;
constexpr int32_t ROW_TOTAL = 1 << TOTAL_BITS;

// A symbol: the quantiles start .. start + freq - 1 of 0 .. 2**24 - 1.
struct Interval {
  uint32_t start, freq;
};

struct Stack {
  uint64_t state;
  int64_t count; // of words
};

// ``words`` must have room for one more word.
GM_INLINE void push(Stack &stack, uint32_t *words, Interval interval) {
  if ((stack.state >> (64 - TOTAL_BITS)) >= interval.freq) {
    words[stack.count++] = (uint32_t)stack.state;
    stack.state >>= 32;
  }
  uint64_t whole = stack.state / interval.freq, rest = stack.state - whole * interval.freq;
  stack.state = (whole << TOTAL_BITS) + interval.start + rest;
}

GM_INLINE int64_t quantile(const Stack &stack) { return (int64_t)(stack.state & (ROW_TOTAL - 1)); }

// Inverse of ``push``, for the interval that holds the stack's quantile.  An empty stack pops zeros.
GM_INLINE void pop(Stack &stack, const uint32_t *words, Interval interval) {
  uint64_t quantile = stack.state & (ROW_TOTAL - 1);
  stack.state = (stack.state >> TOTAL_BITS) * interval.freq + quantile - interval.start;
  if (stack.state < (uint64_t)1 << 32 && stack.count > 0)
    stack.state = stack.state << 32 | words[--stack.count];
}

} // namespace gm::GM_ISA
