// SPDX-License-Identifier: MIT
// The instruction sets of this library, and which of them this processor has.
//
// The build defines GM_ISAS as GM_X(name) for each compiled set, the best first.  Every set includes the later ones, so
// the sets that a processor has are always a tail of the list.  This file is compiled for any processor of the
// architecture.  It asks the processor itself, because the compilers' own functions for it need their run-time
// libraries.
#include "gmcodec.h"

#include <string.h>

#define GM_X(name)                                                                                                     \
  namespace gm::name {                                                                                                 \
  extern const gm_functions functions;                                                                                 \
  }
GM_ISAS
#undef GM_X

namespace gm {
namespace {

#if defined(__x86_64__)
struct Registers {
  uint32_t a, b, c, d;
};

Registers cpuid(uint32_t leaf) {
  Registers r;
  __asm__("cpuid" : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d) : "a"(leaf), "c"(0));
  return r;
}

// Whether the system saves the registers of these bits (XCR0) when it switches threads.
bool saves(uint32_t state) {
  const uint32_t osxsave = 1u << 27;
  if (!(cpuid(1).c & osxsave))
    return false;
  uint32_t low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low & state) == state;
}

constexpr bool has_all(uint32_t flags, uint32_t wanted) { return (flags & wanted) == wanted; }

constexpr uint32_t bits() { return 0; }
template <typename... Rest> constexpr uint32_t bits(uint32_t first, Rest... rest) {
  return 1u << first | bits(rest...);
}

// Names and numbers are from the processors' manuals, the levels from the x86-64 psABI.  A library with sanitizers has
// fewer sets, so some of these functions may be unused.
[[maybe_unused]] bool has_x86_64_v2() {
  const uint32_t wanted =
      bits(0 /* SSE3 */, 9 /* SSSE3 */, 13 /* CMPXCHG16B */, 19 /* SSE4.1 */, 20 /* SSE4.2 */, 23 /* POPCNT */);
  return has_all(cpuid(1).c, wanted) && has_all(cpuid(0x80000001).c, bits(0 /* LAHF */));
}

[[maybe_unused]] bool has_avx2() {
  const uint32_t vectors = bits(1, 2); // XMM, upper halves of YMM
  return has_x86_64_v2() && cpuid(0).a >= 7 && saves(vectors) &&
         has_all(cpuid(1).c, bits(12 /* FMA */, 22 /* MOVBE */, 28 /* AVX */, 29 /* F16C */)) &&
         has_all(cpuid(7).b, bits(3 /* BMI1 */, 5 /* AVX2 */, 8 /* BMI2 */)) &&
         has_all(cpuid(0x80000001).c, bits(5 /* LZCNT */));
}

[[maybe_unused]] bool has_avx512() {
#if defined(__APPLE__)
  const uint32_t vectors = bits(1, 2); // Darwin saves the others only after their first use
#else
  const uint32_t vectors = bits(1, 2, 5, 6, 7); // and the masks, upper halves of ZMM, ZMM16 to 31
#endif
  return has_avx2() && saves(vectors) &&
         has_all(cpuid(7).b, bits(16 /* F */, 17 /* DQ */, 28 /* CD */, 30 /* BW */, 31 /* VL */)) &&
         has_all(cpuid(7).c, bits(11 /* VNNI */));
}
#elif defined(__aarch64__)
[[maybe_unused]] constexpr bool has_neon() {
  return true;
} // part of every 64-bit Arm processor that runs an operating system
#endif

[[maybe_unused]] constexpr bool has_portable() { return true; }

struct Set {
  const char *name;
  const gm_functions *functions;
  bool (*present)();
};

#define GM_X(name) {#name, &name::functions, &has_##name},
const Set SETS[] = {GM_ISAS};
#undef GM_X

#define GM_X(name) "," #name
const char NAMES[] = GM_ISAS; // starts with a comma
#undef GM_X

} // namespace
} // namespace gm

const gm_functions *gm_open(const char *isa) {
  for (const gm::Set &set : gm::SETS)
    if ((!isa || !*isa || !strcmp(isa, set.name)) && set.present())
      return set.functions;
  return nullptr;
}

const char *gm_isas(void) {
  const char *names = gm::NAMES;
  for (const gm::Set &set : gm::SETS) {
    if (set.present())
      break;
    names += 1 + strlen(set.name);
  }
  return *names ? names + 1 : names;
}
