// SPDX-License-Identifier: MIT
// The memory of an object and all its arrays: allocated piece by piece, freed at once.
#pragma once

#include "simd.hpp"

#include <stdlib.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace gm::GM_ISA {

// Ask for large pages, where the system has them: tables that are read here and there then cost fewer page walks.
inline void prefer_large_pages([[maybe_unused]] void *start, [[maybe_unused]] size_t bytes) {
#if defined(MADV_HUGEPAGE)
  constexpr uintptr_t PAGE = 1 << 16, LARGE_PAGE = 1 << 21; // the largest usual pages of all processors
  if (bytes < LARGE_PAGE)
    return;
  const uintptr_t first = ((uintptr_t)start + PAGE - 1) & ~(PAGE - 1), last = ((uintptr_t)start + bytes) & ~(PAGE - 1);
  madvise(reinterpret_cast<void *>(first), last - first, MADV_HUGEPAGE); // a wish: errors do not matter
#endif
}

class Arena {
public:
  // Zeroed memory for ``count`` T, aligned for vectors.  When memory is short: null, and ``failed`` is set.
  template <typename T> T *allocate(size_t count) { return static_cast<T *>(allocate_bytes(count * sizeof(T))); }

  bool failed = false;

  // A zeroed object T, whose member ``arena`` owns its memory.  Null when memory is short.
  template <typename T> static T *make() {
    Arena arena;
    T *object = arena.allocate<T>(1);
    if (object)
      object->arena = arena;
    return object;
  }

  // The object if no allocation failed; else null, and the object is destroyed.
  template <typename T> static T *complete(T *object) {
    if (!object->arena.failed)
      return object;
    destroy(object);
    return nullptr;
  }

  // Free an object of ``make`` and all its arrays.
  template <typename T> static void destroy(T *object) {
    if (object) {
      Arena arena = object->arena; // a copy, since the object lies in the memory that is freed
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
    // a cache line for the block, one for alignment, one that vectors may read past the end
    void *start = bytes < SIZE_MAX / 2 ? calloc(bytes + 3 * ALIGNMENT, 1) : nullptr;
    if (!start) {
      failed = true;
      return nullptr;
    }
    prefer_large_pages(start, bytes);
    uintptr_t aligned = ((uintptr_t)start + sizeof(Block) + ALIGNMENT - 1) & ~(uintptr_t)(ALIGNMENT - 1);
    Block *block = reinterpret_cast<Block *>(aligned - sizeof(Block));
    block->before = last_, block->start = start;
    last_ = block;
    return reinterpret_cast<void *>(aligned);
  }

  Block *last_ = nullptr;
};

} // namespace gm::GM_ISA
