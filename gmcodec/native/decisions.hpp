// SPDX-License-Identifier: MIT
// Binary decisions on a stack of 16-bit words: exact/decisions.py is the specification.
//
// A decision has a probability of one, in 2**-16.  Decisions are pushed in reverse, block by block, each block on an
// empty stack of its own.
#pragma once

#include "gmcodec.h"
#include "simd.hpp"

namespace gm::GM_ISA {

constexpr int DECISION_BITS = 16;
constexpr uint32_t DECISION_TOTAL = 1u << DECISION_BITS;

struct Outcome {
  uint32_t start, freq;
};

// One has the quantiles below its probability, zero the others.
GM_INLINE Outcome outcome(uint32_t probability, bool one) {
  return one ? Outcome{0, probability} : Outcome{probability, DECISION_TOTAL - probability};
}

// Writes decisions down, to be pushed later: the probability of one, plus 2**16 if it is one.
struct DecisionWriter {
  uint32_t *decisions;
  int64_t count;
  GM_INLINE_MEMBER bool code(uint32_t probability, bool one) {
    decisions[count++] = probability | (uint32_t)one << DECISION_BITS;
    return one;
  }
};

// Pops decisions from blocks of words that lie one after another.
struct DecisionReader {
  gm_decision_reader &at;
  GM_INLINE_MEMBER bool code(uint32_t probability, bool) {
    if (at.left == 0)
      open_block();
    --at.left;
    const uint32_t quantile = at.state & (DECISION_TOTAL - 1);
    const bool one = quantile < probability;
    const Outcome found = outcome(probability, one);
    at.state = found.freq * (at.state >> DECISION_BITS) + quantile - found.start;
    if (at.state < DECISION_TOTAL && at.count > 0)
      at.state = at.state << DECISION_BITS | at.words[--at.count];
    return one;
  }

private:
  // The highest words of a block are the state.  After the last block, and in a damaged one, zeros are popped.
  void open_block() {
    const bool any = at.block < at.blocks;
    at.damaged |= at.state != 0 || at.count != 0 || !any;
    at.words += at.size;
    at.size = at.count = any ? at.sizes[at.block] : 0;
    at.block += any;
    at.left = at.block_decisions;
    at.state = 0;
    for (int i = 0; i < 2 && at.count > 0; ++i)
      at.state = at.state << DECISION_BITS | at.words[--at.count];
  }
};

} // namespace gm::GM_ISA
