// The few operations that have no name in portable C++. Testing/library/kernels/host_shim.h has their twins for a CPU.

__device__ inline float exp2_fast(float x) {  // one instruction of the special-function units; error below 2^-22
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ inline float half_to_float(unsigned short x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x));
  return y;
}

__device__ inline unsigned short float_to_half(float x) {
  unsigned short y;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x));
  return y;
}

__device__ inline float bits_to_float(unsigned int x) { return __uint_as_float(x); }
__device__ inline unsigned int float_to_bits(float x) { return __float_as_uint(x); }
