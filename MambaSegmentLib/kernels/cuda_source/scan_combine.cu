// From the summaries of the chunks to what enters each of them: a short scan over chunks, forwards or, for the
// derivative by the state, backwards.
//
// A block has 32 channels of one state times blockDim.y segments of chunks. Each segment is summed up, the segments are
// walked one after the other, and each is walked again from what enters it.

#define SEGMENTS 32  // at most

extern "C" __global__ void __launch_bounds__(LANES * SEGMENTS) scan_combine(const __grid_constant__ ScanParameters p) {
  __shared__ float decays[SEGMENTS][PADDED], sources[SEGMENTS][PADDED];
  const Index blocks = (p.channels + LANES - 1) / LANES;
  const Index channel = (blockIdx.x % blocks) * LANES + threadIdx.x;
  const Index n = blockIdx.x / blocks % STATES, batch = blockIdx.x / blocks / STATES;
  const bool inside = channel < p.channels;
  const Index each = (p.chunks + blockDim.y - 1) / blockDim.y;
  const Index first = threadIdx.y * each;
  const Index end = first + each < p.chunks ? first + each : p.chunks;
  const float A = inside ? p.A[channel * STATES + n] * LOG2_E : 0.0f;
  const Index state = (batch * p.channels + channel) * STATES + n;

  float decay = 1.0f, s = 0.0f;
  if (inside) {
#pragma unroll 8
    for (Index k = first; k < end; k++) {
      const Index row = batch * p.chunks + (p.backwards ? p.chunks - 1 - k : k);
      const float a = exp2_fast(A * p.step_sums[row * p.channels + channel]);
      s = a * s + p.carries[(row * STATES + n) * p.channels + channel];
      decay *= a;
    }
  }
  decays[threadIdx.y][threadIdx.x] = decay;
  sources[threadIdx.y][threadIdx.x] = s;
  __syncthreads();
  if (threadIdx.y == 0 && inside) {
    float carry = p.initial ? p.initial[state] : 0.0f;
    for (int segment = 0; segment < blockDim.y; segment++) {
      const float entering = carry;
      carry = decays[segment][threadIdx.x] * carry + sources[segment][threadIdx.x];
      sources[segment][threadIdx.x] = entering;
    }
    if (p.last) p.last[state] = carry;
  }
  __syncthreads();
  if (!inside) return;
  s = sources[threadIdx.y][threadIdx.x];
#pragma unroll 8
  for (Index k = first; k < end; k++) {
    const Index row = batch * p.chunks + (p.backwards ? p.chunks - 1 - k : k);
    const float a = exp2_fast(A * p.step_sums[row * p.channels + channel]);
    float* place = &p.carries[(row * STATES + n) * p.channels + channel];
    const float entering = s;
    s = a * s + *place;
    *place = entering;
  }
}
