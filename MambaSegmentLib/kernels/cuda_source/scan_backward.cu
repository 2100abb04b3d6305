// The way back. docs/scan.md has the equations; h_t = a_t g_t is what a step hands to the one before.

// One walk along each chunk, forwards: the state before each tile, and the summary of the chunk for the derivative.
// That derivative runs backwards, but its summary, sum over t of (a_first ... a_t) C_t dy_t, can be added up forwards,
// and so costs no exponentials of its own.
extern "C" __global__ void __launch_bounds__(LANES, WARPS_FORWARD) scan_back_summary(const __grid_constant__ ScanParameters p) {
  __shared__ int tokens[TILE];
  __shared__ float u[TILE][PADDED], delta[TILE][PADDED], z[TILE][PADDED], dy[TILE][PADDED];
  __shared__ __align__(16) float B[TILE][STATES_PADDED], C[TILE][STATES_PADDED];
  const Place at = place_of(p);
  const float bias = p.bias && at.inside ? p.bias[at.channel] : 0.0f;
  float A[STATES], s[STATES], decay[STATES], adjoint[STATES], sum = 0.0f;
#pragma unroll
  for (int n = 0; n < STATES; n++) {
    A[n] = at.inside ? p.A[(Index)at.channel * STATES + n] * LOG2_E : 0.0f;
    decay[n] = 1.0f;
    s[n] = adjoint[n] = 0.0f;
    if (!at.inside) continue;
    if (p.carries) s[n] = p.carries[row_of(p, at, p.chunks, at.chunk, n)];
    else if (p.initial) s[n] = p.initial[(at.batch * p.channels + at.channel) * STATES + n];
  }
  const int tiles = (p.length - 1) / TILE + 1;
  for (int first = at.first; first < at.end; first += TILE) {
    const int count = at.end - first < TILE ? at.end - first : TILE;
    __syncwarp();
    place_tokens(p, at, first, count, tokens);
    __syncwarp();
    load_tile<TYPE_SEQUENCE>(p.u, at, tokens, u);
    load_tile<TYPE_SEQUENCE>(p.delta, at, tokens, delta);
    load_tile<TYPE_SEQUENCE>(p.dy, at, tokens, dy);
    if (p.gated) load_tile<TYPE_SEQUENCE>(p.z, at, tokens, z);
    load_states(p.B, at, tokens, B);
    load_states(p.C, at, tokens, C);
    if (at.inside) {
#pragma unroll
      for (int n = 0; n < STATES; n++) p.tile_states[row_of(p, at, tiles, first / TILE, n)] = s[n];
    }
    __syncwarp();
#pragma unroll 2
    for (int t = 0; t < count; t++) {
      const float step = step_size(p, delta[t][at.lane], bias);
      const float input = step * u[t][at.lane];
      sum += step;
      float upstream = dy[t][at.lane];
      if (p.gated) upstream *= z[t][at.lane] * sigmoid(z[t][at.lane]);
#pragma unroll
      for (int n = 0; n < STATES; n += 4) {
        const float4 b = *(const float4*)&B[t][n], c = *(const float4*)&C[t][n];
        const float b_row[4] = {b.x, b.y, b.z, b.w}, c_row[4] = {c.x, c.y, c.z, c.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
          if (n + i >= STATES) continue;
          const float a = decay_of(step * A[n + i], n + i);
          s[n + i] = a * s[n + i] + input * b_row[i];
          decay[n + i] *= a;
          adjoint[n + i] += decay[n + i] * (upstream * c_row[i]);
        }
      }
    }
  }
  if (!at.inside || !p.adjoints) return;
  p.step_sums[(at.batch * p.chunks + at.chunk) * p.channels + at.channel] = sum;
#pragma unroll
  for (int n = 0; n < STATES; n++) p.adjoints[row_of(p, at, p.chunks, at.chunk, n)] = adjoint[n];
}

// Sums over the lanes of 32 values at once: afterwards lane i holds the sum of value i in its first one. Each round halves
// the values that a lane keeps, so 31 exchanges do what 32 plain sums need 160 for.
template <int WIDTH>
__device__ inline void halve(float (&values)[LANES], int lane) {
  const bool upper = lane & WIDTH;
#pragma unroll
  for (int i = 0; i < WIDTH; i++) {
    const float keep = upper ? values[i + WIDTH] : values[i];
    const float give = upper ? values[i] : values[i + WIDTH];
    values[i] = keep + __shfl_xor_sync(0xffffffffu, give, WIDTH);
  }
}

__device__ inline float sum_over_lanes(float (&values)[LANES], int lane) {
  halve<16>(values, lane);
  halve<8>(values, lane);
  halve<4>(values, lane);
  halve<2>(values, lane);
  halve<1>(values, lane);
  return values[0];
}

// The chunk again, tile by tile from its end. Within a tile one state n after the other: its TILE states and decays are
// computed again from the one before the tile, then walked backwards, all in registers.
extern "C" __global__ void __launch_bounds__(LANES, WARPS_BACKWARD) scan_back_finish(const __grid_constant__ ScanParameters p) {
  __shared__ int tokens[TILE];
  __shared__ float u[TILE][PADDED], delta[TILE][PADDED], z[TILE][PADDED], dy[TILE][PADDED];
  __shared__ __align__(16) float B[STATES][TILE], C[STATES][TILE];
  __shared__ float dB[TILE][STATES], dC[TILE][STATES];
  __shared__ float A[STATES][LANES], dA[STATES][LANES], carry[STATES][LANES];  // own lane only: an index at run time
  const Place at = place_of(p);
  const float bias = p.bias && at.inside ? p.bias[at.channel] : 0.0f;
  const float skip = p.D && at.inside ? p.D[at.channel] : 0.0f;
  float d_skip = 0.0f, d_bias = 0.0f;
  for (int n = 0; n < STATES; n++) {
    A[n][at.lane] = at.inside ? p.A[(Index)at.channel * STATES + n] : 0.0f;
    dA[n][at.lane] = carry[n][at.lane] = 0.0f;
    if (!at.inside) continue;
    if (p.adjoints) carry[n][at.lane] = p.adjoints[row_of(p, at, p.chunks, at.chunk, n)];
    else if (p.initial) carry[n][at.lane] = p.initial[(at.batch * p.channels + at.channel) * STATES + n];
  }
  const int tiles = (p.length - 1) / TILE + 1;
  for (int tile = (at.end - 1) / TILE; tile >= at.first / TILE; tile--) {
    const int first = tile * TILE;
    const int count = at.end - first < TILE ? at.end - first : TILE;
    __syncwarp();
    place_tokens(p, at, first, count, tokens);
    __syncwarp();
    load_tile<TYPE_SEQUENCE>(p.u, at, tokens, u);
    load_tile<TYPE_SEQUENCE>(p.delta, at, tokens, delta);
    load_tile<TYPE_SEQUENCE>(p.dy, at, tokens, dy);
    if (p.gated) load_tile<TYPE_SEQUENCE>(p.z, at, tokens, z);
    load_states_by_row(p.B, at, tokens, B);
    load_states_by_row(p.C, at, tokens, C);
    __syncwarp();

    float step[TILE], input[TILE], upstream[TILE];  // outside all 0: nothing is added, the state passes unchanged
    float d_input[TILE], d_step[TILE], y[TILE];
#pragma unroll
    for (int t = 0; t < TILE; t++) {
      const bool there = t < count && at.inside;
      step[t] = there ? step_size(p, delta[t][at.lane], bias) : 0.0f;
      input[t] = there ? step[t] * u[t][at.lane] : 0.0f;
      upstream[t] = there ? dy[t][at.lane] : 0.0f;
      if (p.gated && there) upstream[t] *= z[t][at.lane] * sigmoid(z[t][at.lane]);
      d_input[t] = d_step[t] = 0.0f;
      y[t] = skip * u[t][at.lane];
    }
#pragma unroll 1
    for (int n = 0; n < STATES; n++) {
      const float rate = A[n][at.lane];
      float s = at.inside ? p.tile_states[row_of(p, at, tiles, tile, n)] : 0.0f;
      float a[TILE], before[TILE], sums[LANES];  // sums: dB of each step, then dC
#pragma unroll
      for (int t = 0; t < TILE; t += 4) {
        const float4 b = *(const float4*)&B[n][t], c = *(const float4*)&C[n][t];
        const float b_row[4] = {b.x, b.y, b.z, b.w}, c_row[4] = {c.x, c.y, c.z, c.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
          before[t + i] = s;
          a[t + i] = decay_of(step[t + i] * (rate * LOG2_E), t + i);
          s = a[t + i] * s + input[t + i] * b_row[i];
          sums[TILE + t + i] = upstream[t + i] * s;
          y[t + i] += s * c_row[i];
        }
      }
      float h = carry[n][at.lane], d_rate = 0.0f;
#pragma unroll
      for (int t = TILE - 4; t >= 0; t -= 4) {
        const float4 b = *(const float4*)&B[n][t], c = *(const float4*)&C[n][t];
        const float b_row[4] = {b.x, b.y, b.z, b.w}, c_row[4] = {c.x, c.y, c.z, c.w};
#pragma unroll
        for (int i = 3; i >= 0; i--) {
          const float g = upstream[t + i] * c_row[i] + h;
          h = g * a[t + i];
          const float d_exponent = h * before[t + i];
          d_input[t + i] += g * b_row[i];
          d_step[t + i] += d_exponent * rate;
          d_rate += d_exponent * step[t + i];
          sums[t + i] = g * input[t + i];
        }
      }
      carry[n][at.lane] = h;
      dA[n][at.lane] += d_rate;
      const float sum = sum_over_lanes(sums, at.lane);
      (at.lane < TILE ? dB : dC)[at.lane % TILE][n] = sum;
    }
#pragma unroll
    for (int t = 0; t < TILE; t++) {  // results take the place of what they come from
      if (t >= count) continue;
      const float x = u[t][at.lane], raw = delta[t][at.lane] + bias;
      const float d_raw = (d_step[t] + d_input[t] * x) * (p.softplus ? sigmoid(raw) : 1.0f);
      if (p.gated) {
        const float gate = z[t][at.lane], s = sigmoid(gate);
        z[t][at.lane] = dy[t][at.lane] * y[t] * s * (1.0f + gate * (1.0f - s));
      }
      u[t][at.lane] = d_input[t] * step[t] + skip * upstream[t];
      delta[t][at.lane] = d_raw;
      d_skip += upstream[t] * x;
      d_bias += d_raw;
    }
    __syncwarp();
    store_tile<TYPE_OUT>(p.du, at, tokens, count, p.accumulate, u);
    store_tile<TYPE_SEQUENCE>(p.ddelta, at, tokens, count, false, delta);
    if (p.gated) store_tile<TYPE_SEQUENCE>(p.dz, at, tokens, count, false, z);
    const Index row = (at.block * p.batch + at.batch) * p.groups + at.group;
    for (int i = at.lane; i < count * STATES; i += LANES) {
      const Index place = (row * p.length + tokens[i / STATES]) * STATES + i % STATES;
      p.dB[place] = dB[i / STATES][i % STATES];
      p.dC[place] = dC[i / STATES][i % STATES];
    }
  }
  if (!at.inside) return;
  const Index row = (at.batch * p.chunks + at.chunk) * p.channels + at.channel;
  p.dD[row] = d_skip;
  p.dbias[row] = d_bias;
  for (int n = 0; n < STATES; n++) {
    p.dA[row_of(p, at, p.chunks, at.chunk, n)] = dA[n][at.lane];
    if (p.last && at.chunk == 0) p.last[(at.batch * p.channels + at.channel) * STATES + n] = carry[n][at.lane];
  }
}
