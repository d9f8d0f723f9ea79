// SPDX-License-Identifier: MIT
// Memory of an object and all its arrays: taken piece by piece, given back at once.
#pragma once

#include "simd.hpp"

#include <stdlib.h>

namespace gm::GM_ISA {

class Arena {
public:
  // Zeroed memory for so count T, aligned for vectors; null, and ``failed``, when there is none.
  template <typename T> T *allocate(size_t count) { return static_cast<T *>(allocate_bytes(count * sizeof(T))); }

  bool failed = false;

  // An object T with a member ``arena`` that owns its memory; null when there is none.
  template <typename T> static T *make() {
    Arena arena;
    T *object = arena.allocate<T>(1);
    if (object)
      object->arena = arena;
    return object;
  }

  // The object, if there was memory for all of it; else null, and nothing is left of it.
  template <typename T> static T *complete(T *object) {
    if (!object->arena.failed)
      return object;
    destroy(object);
    return nullptr;
  }

  // Give back an object of ``make`` and all its arrays.
  template <typename T> static void destroy(T *object) {
    if (object) {
      Arena arena = object->arena; // its list lies in the memory that is given back
      arena.release();
    }
  }

  void release() {
    for (Block *block = last_; block;) {
      Block *before = block->before;
      free(block->start);
      block = before;
    }
  }

private:
  struct Block {
    Block *before;
    void *start;
  };
  static constexpr size_t ALIGNMENT = 64;

  void *allocate_bytes(size_t bytes) {
    // one line for the block, one to align, one that vectors may read behind the end
    void *start = bytes < SIZE_MAX / 2 ? calloc(bytes + 3 * ALIGNMENT, 1) : nullptr;
    if (!start) {
      failed = true;
      return nullptr;
    }
    uintptr_t aligned = ((uintptr_t)start + sizeof(Block) + ALIGNMENT - 1) & ~(uintptr_t)(ALIGNMENT - 1);
    Block *block = reinterpret_cast<Block *>(aligned - sizeof(Block));
    block->before = last_, block->start = start;
    last_ = block;
    return reinterpret_cast<void *>(aligned);
  }

  Block *last_ = nullptr;
};

} // namespace gm::GM_ISA
