// The way forward: a summary of each chunk, and the chunk itself once the state that enters it is known.

// What a chunk does to any state that enters: it decays by exp(A sum of steps), and `carries` is added.
extern "C" __global__ void __launch_bounds__(LANES, WARPS_FORWARD) scan_summary(const __grid_constant__ ScanParameters p) {
  __shared__ int tokens[TILE];
  __shared__ float u[TILE][PADDED], delta[TILE][PADDED];
  __shared__ __align__(16) float B[TILE][STATES_PADDED];
  const Place at = place_of(p);
  const float bias = p.bias && at.inside ? p.bias[at.channel] : 0.0f;
  float A[STATES], s[STATES_PADDED], sum = 0.0f;
#pragma unroll
  for (int n = 0; n < STATES; n++) {
    A[n] = at.inside ? p.A[(Index)at.channel * STATES + n] * LOG2_E : 0.0f;
    s[n] = 0.0f;
  }
  for (int first = at.first; first < at.end; first += TILE) {
    const int count = at.end - first < TILE ? at.end - first : TILE;
    __syncwarp();  // the tile before has been read
    place_tokens(p, at, first, count, tokens);
    __syncwarp();
    load_tile<TYPE_SEQUENCE>(p.u, at, tokens, u);
    load_tile<TYPE_SEQUENCE>(p.delta, at, tokens, delta);
    load_states(p.B, at, tokens, B);
    __syncwarp();
#pragma unroll 2
    for (int t = 0; t < count; t++) {
      const float step = step_size(p, delta[t][at.lane], bias);
      const float input = step * u[t][at.lane];
      sum += step;
#pragma unroll
      for (int n = 0; n < STATES; n += 4) {
        const float4 b = *(const float4*)&B[t][n];
        const float row[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
        for (int i = 0; i < 4; i++)
          if (n + i < STATES) s[n + i] = decay_of(step * A[n + i], n + i) * s[n + i] + input * row[i];
      }
    }
  }
  if (!at.inside) return;
  p.step_sums[(at.batch * p.chunks + at.chunk) * p.channels + at.channel] = sum;
#pragma unroll
  for (int n = 0; n < STATES; n++) p.carries[row_of(p, at, p.chunks, at.chunk, n)] = s[n];
}

// y of each chunk from the state that enters it; the state after the last step where there is one chunk alone.
extern "C" __global__ void __launch_bounds__(LANES, WARPS_FORWARD) scan_finish(const __grid_constant__ ScanParameters p) {
  __shared__ int tokens[TILE];
  __shared__ float u[TILE][PADDED], delta[TILE][PADDED], z[TILE][PADDED];
  __shared__ __align__(16) float B[TILE][STATES_PADDED], C[TILE][STATES_PADDED];
  const Place at = place_of(p);
  const float bias = p.bias && at.inside ? p.bias[at.channel] : 0.0f;
  const float skip = p.D && at.inside ? p.D[at.channel] : 0.0f;
  float A[STATES], s[STATES];
#pragma unroll
  for (int n = 0; n < STATES; n++) {
    A[n] = at.inside ? p.A[(Index)at.channel * STATES + n] * LOG2_E : 0.0f;
    s[n] = 0.0f;
    if (!at.inside) continue;
    if (p.carries) s[n] = p.carries[row_of(p, at, p.chunks, at.chunk, n)];
    else if (p.initial) s[n] = p.initial[(at.batch * p.channels + at.channel) * STATES + n];
  }
  for (int first = at.first; first < at.end; first += TILE) {
    const int count = at.end - first < TILE ? at.end - first : TILE;
    __syncwarp();
    place_tokens(p, at, first, count, tokens);
    __syncwarp();
    load_tile<TYPE_SEQUENCE>(p.u, at, tokens, u);
    load_tile<TYPE_SEQUENCE>(p.delta, at, tokens, delta);
    if (p.gated) load_tile<TYPE_SEQUENCE>(p.z, at, tokens, z);
    load_states(p.B, at, tokens, B);
    load_states(p.C, at, tokens, C);
    __syncwarp();
#pragma unroll 2
    for (int t = 0; t < count; t++) {
      const float step = step_size(p, delta[t][at.lane], bias);
      const float input = step * u[t][at.lane];
      float y[4] = {skip * u[t][at.lane], 0.0f, 0.0f, 0.0f};  // four sums: additions need not wait for each other
#pragma unroll
      for (int n = 0; n < STATES; n += 4) {
        const float4 b = *(const float4*)&B[t][n], c = *(const float4*)&C[t][n];
        const float b_row[4] = {b.x, b.y, b.z, b.w}, c_row[4] = {c.x, c.y, c.z, c.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
          if (n + i >= STATES) continue;
          s[n + i] = decay_of(step * A[n + i], n + i) * s[n + i] + input * b_row[i];
          y[i] += s[n + i] * c_row[i];
        }
      }
      float out = (y[0] + y[1]) + (y[2] + y[3]);
      if (p.gated) out *= z[t][at.lane] * sigmoid(z[t][at.lane]);
      u[t][at.lane] = out;  // in place of the input, which nobody else reads
    }
    __syncwarp();
    store_tile<TYPE_OUT>(p.y, at, tokens, count, p.accumulate, u);
  }
  if (!at.inside || !p.last || at.chunk + 1 < p.chunks) return;
#pragma unroll
  for (int n = 0; n < STATES; n++) p.last[(at.batch * p.channels + at.channel) * STATES + n] = s[n];
}
