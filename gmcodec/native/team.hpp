// SPDX-License-Identifier: MIT
// Several threads that work on one tile: they share arrays, each does its part of a step, and wait for one another.
//
//   worker 0   part of a step | wait | part of the next step ...
//   worker 1   part of a step | wait | part of the next step ...
//
// How count there are never changes what is computed.  Waiting spins for a moment, since steps allocate less than a
// millisecond, and then lets the system wait.  While it spins, it offers the processor again and again: on a busy
// machine the thread that all wait for may be the one that needs it.  Without that, two threads beside another
// program were five times as slow as one.
#pragma once

#include "simd.hpp"

#if defined(_WIN32)
extern "C" __declspec(dllimport) void __stdcall Sleep(unsigned long milliseconds);
extern "C" __declspec(dllimport) int __stdcall SwitchToThread(void);
#else
#include <sched.h>
#include <time.h>
#endif
#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace gm::GM_ISA {

struct alignas(64) Counter {
  int32_t value;
  char rest[60]; // a cache line of its own
};

struct Team {
  Counter arrived, generation, sleepers, task;
  int32_t workers;
};

constexpr int SPINS = 20000; // a fraction of a millisecond
constexpr int OFFER = 64;    // spins between two offers of the processor

GM_INLINE void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Let another thread have the processor, if one waits for it.
static inline void offer() {
#if defined(_WIN32)
  (void)SwitchToThread();
#else
  (void)sched_yield();
#endif
}

GM_INLINE int32_t look(const Counter &counter) { return __atomic_load_n(&counter.value, __ATOMIC_SEQ_CST); }

// Sleep while the counter has this value, or for a moment.
static inline void sleep_while(Counter &counter, int32_t value) {
#if defined(__linux__)
  syscall(SYS_futex, &counter.value, FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0);
#elif defined(_WIN32)
  (void)counter, (void)value;
  Sleep(1);
#else
  (void)counter, (void)value;
  timespec moment = {0, 50000};
  nanosleep(&moment, nullptr);
#endif
}

static inline void wake_all(Counter &counter) {
#if defined(__linux__)
  syscall(SYS_futex, &counter.value, FUTEX_WAKE_PRIVATE, INT32_MAX, nullptr, nullptr, 0);
#else
  (void)counter;
#endif
}

// Wait until all have come here.  What any wrote before, all see afterwards; tasks begin anew.
static inline void wait_for_all(Team &team) {
  if (team.workers == 1) {
    team.task.value = 0;
    return;
  }
  const int32_t generation = look(team.generation);
  if (__atomic_add_fetch(&team.arrived.value, 1, __ATOMIC_SEQ_CST) == team.workers) {
    __atomic_store_n(&team.arrived.value, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&team.task.value, 0, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&team.generation.value, 1, __ATOMIC_SEQ_CST);
    if (look(team.sleepers))
      wake_all(team.generation);
    return;
  }
  for (int spins = 1; spins <= SPINS; ++spins) {
    if (look(team.generation) != generation)
      return;
    spins % OFFER ? pause() : offer();
  }
  __atomic_add_fetch(&team.sleepers.value, 1, __ATOMIC_SEQ_CST);
  while (look(team.generation) == generation)
    sleep_while(team.generation, generation);
  __atomic_sub_fetch(&team.sleepers.value, 1, __ATOMIC_SEQ_CST);
}

// The number of a task that nobody else has taken since all waited.
static inline int32_t next_task(Team &team) { return __atomic_fetch_add(&team.task.value, 1, __ATOMIC_SEQ_CST); }

struct Span {
  int first, end;
};

// A worker's part of ``count`` things, in multiples of ``whole``.
GM_INLINE Span share_of(int count, int worker, int workers, int whole) {
  int each = round_up((count + workers - 1) / workers, whole);
  return {smaller(count, worker * each), smaller(count, (worker + 1) * each)};
}

} // namespace gm::GM_ISA
