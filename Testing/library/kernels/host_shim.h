// Runs the CUDA kernels of MambaSegmentLib/kernels/cuda_source on a CPU, to test their text where there is no GPU.
//
// Blocks run one after the other. The threads of a block are fibers: each runs until its next barrier (or exchange between
// lanes), then the next one does. Shared memory is filled with bytes 0xff (not a number) before each block, so that a read
// of what nobody wrote shows. With `reverse` the fibers take turns the other way round: a missing barrier then gives another
// result. What this cannot show: speed, the GPU's own exponential and rounding, and faults of the compiler for GPUs.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <ucontext.h>
#include <vector>

#define __device__
#define __global__
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static __attribute__((section("shared_memory")))

struct float4 { float x, y, z, w; };
struct Three { int x = 0, y = 0, z = 0; };
static Three threadIdx, blockIdx, blockDim;

extern char __start_shared_memory[], __stop_shared_memory[];

namespace fibers {
const int STACK_BYTES = 1 << 16, MOST = 1024;
static ucontext_t scheduler, contexts[MOST];
static std::vector<char> stacks;
static bool finished[MOST];
static int current;
static float exchanged[2][MOST];
static int exchanges[MOST];
static void (*body)();

inline void barrier() { swapcontext(&contexts[current], &scheduler); }

inline void start() {
  body();
  finished[current] = true;
}

inline void run_block(int block, int x, int y, bool reverse) {
  const int threads = x * y;
  stacks.resize((size_t)STACK_BYTES * MOST);
  memset(__start_shared_memory, 0xff, __stop_shared_memory - __start_shared_memory);
  blockIdx.x = block;
  blockDim.x = x, blockDim.y = y;
  for (int i = 0; i < threads; i++) {
    getcontext(&contexts[i]);
    contexts[i].uc_stack.ss_sp = &stacks[(size_t)STACK_BYTES * i];
    contexts[i].uc_stack.ss_size = STACK_BYTES;
    contexts[i].uc_link = &scheduler;
    makecontext(&contexts[i], start, 0);
    finished[i] = false;
    exchanges[i] = 0;
  }
  for (int left = threads; left > 0;) {
    left = 0;
    for (int turn = 0; turn < threads; turn++) {
      current = reverse ? threads - 1 - turn : turn;
      if (finished[current]) continue;
      threadIdx.x = current % x, threadIdx.y = current / x;
      swapcontext(&scheduler, &contexts[current]);
      left += !finished[current];
    }
  }
}
}  // namespace fibers

inline void __syncwarp() { fibers::barrier(); }
inline void __syncthreads() { fibers::barrier(); }

inline float __shfl_xor_sync(unsigned, float value, int mask) {
  // two buffers in turn: a fiber may be one exchange ahead of another, never two
  const int me = fibers::current, buffer = fibers::exchanges[me]++ & 1;
  fibers::exchanged[buffer][me] = value;
  fibers::barrier();
  return fibers::exchanged[buffer][me ^ mask];
}

inline float exp2_fast(float x) { return exp2f(x); }
inline float bits_to_float(unsigned int x) { float y; memcpy(&y, &x, 4); return y; }
inline unsigned int float_to_bits(float x) { unsigned int y; memcpy(&y, &x, 4); return y; }
inline float half_to_float(unsigned short x) { _Float16 y; memcpy(&y, &x, 2); return (float)y; }
inline unsigned short float_to_half(float x) { _Float16 y = (_Float16)x; unsigned short z; memcpy(&z, &y, 2); return z; }
