// SPDX-License-Identifier: MIT
// A team of threads, the workers, that code one tile.  They share arrays; each does its share of a step, then waits at
// a barrier until all have done theirs.
//
//   worker 0   share of a step | barrier | share of the next step ...
//   worker 1   share of a step | barrier | share of the next step ...
//
// The number of workers never changes the results.  Steps take less than a millisecond, so a waiting thread spins for a
// moment before it sleeps.  While it spins, it yields its processor again and again: on a busy machine the thread that
// the others wait for may need it.  Without this, two threads beside another program were five times as slow as one.
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
  char padding[60]; // to a cache line of its own
};

struct ThreadTeam {
  Counter arrived;    // workers at the barrier
  Counter generation; // how often all have passed the barrier
  Counter sleepers;   // workers that sleep
  Counter task;       // next task that no worker has taken
  int32_t workers;
};

constexpr int SPINS = 20000;    // a fraction of a millisecond
constexpr int YIELD_SPINS = 64; // spins from one yield to the next

GM_INLINE void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Let another thread have the processor if one waits for it.
static inline void yield_processor() {
#if defined(_WIN32)
  (void)SwitchToThread();
#else
  (void)sched_yield();
#endif
}

GM_INLINE int32_t load(const Counter &counter) { return __atomic_load_n(&counter.value, __ATOMIC_SEQ_CST); }

// Sleep until the counter changes from this value; without futexes, for a moment.
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

// The barrier.  What any worker wrote before it, all see after it.  Tasks are counted from 0 again.
static inline void wait_at_barrier(ThreadTeam &team) {
  if (team.workers == 1) {
    team.task.value = 0;
    return;
  }
  const int32_t generation = load(team.generation);
  if (__atomic_add_fetch(&team.arrived.value, 1, __ATOMIC_SEQ_CST) == team.workers) {
    __atomic_store_n(&team.arrived.value, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&team.task.value, 0, __ATOMIC_SEQ_CST);
    __atomic_add_fetch(&team.generation.value, 1, __ATOMIC_SEQ_CST);
    if (load(team.sleepers))
      wake_all(team.generation);
    return;
  }
  for (int spins = 1; spins <= SPINS; ++spins) {
    if (load(team.generation) != generation)
      return;
    spins % YIELD_SPINS ? pause() : yield_processor();
  }
  __atomic_add_fetch(&team.sleepers.value, 1, __ATOMIC_SEQ_CST);
  while (load(team.generation) == generation)
    sleep_while(team.generation, generation);
  __atomic_sub_fetch(&team.sleepers.value, 1, __ATOMIC_SEQ_CST);
}

// The number of a task that no worker has taken since the barrier.
static inline int32_t next_task(ThreadTeam &team) { return __atomic_fetch_add(&team.task.value, 1, __ATOMIC_SEQ_CST); }

struct Span {
  int first, end; // the last one is end - 1
};

// A worker's share of ``count`` things: a multiple of ``multiple``, except at the end.
GM_INLINE Span share_of(int count, int worker, int workers, int multiple) {
  int each = round_up((count + workers - 1) / workers, multiple);
  return {smaller(count, worker * each), smaller(count, (worker + 1) * each)};
}

} // namespace gm::GM_ISA
