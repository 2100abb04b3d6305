// What all kernels of the scan share: parameters, number formats, the place of a block, tiles in shared memory.
//
// Compiled at run time, with these macros given: STATES (N), EXPONENTIALS_ON_FMA (of 16, see decay_of), TYPE_SEQUENCE (of
// u, delta, z and their gradients), TYPE_OUT (of y and du), TYPE_GROUPED (of B and C). The three type macros name one of
// Single, Half, Brain below.
//
// One warp is one block. Its 32 lanes are 32 neighbouring channels of one group; it walks one chunk of the sequence in
// tiles of TILE steps. A tile is brought to shared memory along whichever of its two sides is adjacent in device memory,
// so both layouts, channels-last and (B, D, L), are read in whole lines and without a copy.

#define LANES 32
#define TILE 16
#define WARPS_FORWARD 12   // of a multiprocessor, at least: a bound on registers, 168 here
#define WARPS_BACKWARD 8   // and 255 here
#define PADDED (LANES + 1)                // a row of a tile: lanes along the steps then hit different banks
#define STATES_PADDED ((STATES + 3) / 4 * 4)  // rows of B and C are read as four floats at a time
#define LOG2_E 1.4426950408889634f
#define LN_2 0.6931471805599453f

typedef long long Index;  // tensors may hold more than 2^31 elements

struct Single { float value; };
struct Half { unsigned short bits; };
struct Brain { unsigned short bits; };  // bfloat16

__device__ inline float to_float(Single x) { return x.value; }
__device__ inline float to_float(Half x) { return half_to_float(x.bits); }
__device__ inline float to_float(Brain x) { return bits_to_float((unsigned int)x.bits << 16); }

__device__ inline void store(Single* to, float x) { to->value = x; }
__device__ inline void store(Half* to, float x) { to->bits = float_to_half(x); }
__device__ inline void store(Brain* to, float x) {  // to the nearest, ties to even; what is not a number stays so
  unsigned int bits = float_to_bits(x);
  to->bits = x != x ? 0x7fff : (unsigned short)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// Strides count elements. `data` is an address, 0 for what is absent. Only batches and groups may be far apart: with the
// other strides below 2^29 one instruction makes a 64-bit address of two 32-bit factors. Groups that share a tensor are 0
// apart.
struct Sequence { unsigned long long data; Index batch, group; int channel, token; };
struct Grouped { unsigned long long data; Index batch, group; int state, token; };

#define MOST_ORDERS 8

// In which order a group visits the tokens; sizes and strides slowest first, see position_of.
struct Order { int sizes[3], strides[3], in_order, reversed; };

// The same fields in the same order as ScanParameters in cuda_parameters.py.
struct ScanParameters {
  Sequence u, delta, z, y, dy, du, ddelta, dz;  // (B, D, L)
  Grouped B, C;                                  // (B, G, N, L)
  const float* A;                                // (D, N)
  const float* D;                                // (D,) or null
  const float* bias;                             // (D,) or null
  const float* initial;                          // (B, D, N) or null: the state, or its derivative, that enters
  float* last;                                   // (B, D, N): what leaves
  float* step_sums;                              // (B, K, D), of the step sizes of a chunk
  float* carries;                                // (B, K, N, D): summary of a chunk, then what enters it
  float* adjoints;                               // the same for the derivative by the state, which runs backwards
  float* tile_states;                            // (B, tiles, N, D), before each tile
  float* dB;                                     // (P, B, G, L, N), P blocks of channels in a group
  float* dC;
  float* dA;                                     // (B, K, N, D)
  float* dD;                                     // (B, K, D)
  float* dbias;                                  // (B, K, D)
  int batch, channels, length, groups;
  int chunks, chunk_steps;                       // a multiple of TILE
  Order orders[MOST_ORDERS];                     // of each group; the first one of all where there is one
  int one_order, softplus, accumulate, gated, backwards;  // backwards: the way of scan_combine along the chunks
};

struct Place {
  Index batch;
  int group, chunk, block, channel;  // block: of channels within the group; channel: of this lane
  int first, end;                    // steps of the chunk
  int lane, lanes;                   // lanes: how many have a channel
  bool inside;                       // whether this one has
};

__device__ inline Place place_of(const ScanParameters& p) {
  Place at;
  const unsigned width = p.channels / p.groups;
  const unsigned blocks = (width + LANES - 1) / LANES;
  unsigned rest = blockIdx.x;
  at.block = rest % blocks;  // neighbours share B and C
  rest /= blocks;
  at.group = rest % (unsigned)p.groups;
  rest /= (unsigned)p.groups;
  at.chunk = rest % (unsigned)p.chunks;
  at.batch = rest / (unsigned)p.chunks;
  at.lane = threadIdx.x;
  const int left = width - at.block * LANES;
  at.lanes = left < LANES ? left : LANES;
  at.inside = at.lane < at.lanes;
  at.channel = at.group * width + at.block * LANES + at.lane;
  at.first = at.chunk * p.chunk_steps;
  at.end = p.length - at.first < p.chunk_steps ? p.length : at.first + p.chunk_steps;
  return at;
}

// Where step t of the scan lies: the token's number along the tensors' last axis.
__device__ inline int position_of(const Order& order, int length, int t) {
  const unsigned step = order.reversed ? length - 1 - t : t;
  if (order.in_order) return step;
  const unsigned rest = step / (unsigned)order.sizes[2], fast = step % (unsigned)order.sizes[2];
  return rest / (unsigned)order.sizes[1] * order.strides[0] + rest % (unsigned)order.sizes[1] * order.strides[1] +
         fast * order.strides[2];
}

// The tokens of a tile. Beyond the last step the last one again: loads then need no condition, and what they bring is not used.
__device__ inline void place_tokens(const ScanParameters& p, const Place& at, int first, int count, int* tokens) {
  const Order& order = p.orders[p.one_order ? 0 : at.group];
  if (at.lane < TILE) tokens[at.lane] = position_of(order, p.length, first + (at.lane < count ? at.lane : count - 1));
}

// A tile (steps, channels) of one tensor, as floats; what lies outside holds some number of the tensor's.
template <typename T>
__device__ inline void load_tile(const Sequence& from, const Place& at, const int* tokens, float (*tile)[PADDED]) {
  const T* start =
      (const T*)from.data + at.batch * from.batch + at.group * from.group + (Index)at.block * LANES * from.channel;
  if (from.channel == 1 || from.token != 1) {  // a row: the channels of one step
    start += (Index)(at.inside ? at.lane : at.lanes - 1) * from.channel;
#pragma unroll
    for (int t = 0; t < TILE; t++) tile[t][at.lane] = to_float(start[(Index)tokens[t] * from.token]);
  } else {  // the steps of LANES / TILE channels
    start += tokens[at.lane % TILE];
#pragma unroll
    for (int i = 0; i < TILE; i++) {
      const int channel = i * (LANES / TILE) + at.lane / TILE;
      tile[at.lane % TILE][channel] =
          to_float(start[(Index)(channel < at.lanes ? channel : at.lanes - 1) * from.channel]);
    }
  }
}

template <typename T>
__device__ inline void store_tile(const Sequence& to, const Place& at, const int* tokens, int count, bool accumulate,
                                  float (*tile)[PADDED]) {
  T* start = (T*)to.data + at.batch * to.batch + at.group * to.group + (Index)at.block * LANES * to.channel;
  if (to.channel == 1 || to.token != 1) {
    if (!at.inside) return;
    start += (Index)at.lane * to.channel;
#pragma unroll
    for (int t = 0; t < TILE; t++) {
      if (t >= count) continue;
      T* place = start + (Index)tokens[t] * to.token;
      store(place, accumulate ? to_float(*place) + tile[t][at.lane] : tile[t][at.lane]);
    }
  } else {
    const int t = at.lane % TILE;
    if (t >= count) return;
    start += tokens[t];
#pragma unroll
    for (int i = 0; i < TILE; i++) {
      const int channel = i * (LANES / TILE) + at.lane / TILE;
      if (channel >= at.lanes) continue;
      T* place = start + (Index)channel * to.channel;
      store(place, accumulate ? to_float(*place) + tile[t][channel] : tile[t][channel]);
    }
  }
}

// B or C of a tile's steps as [step][state].
__device__ inline void load_states(const Grouped& from, const Place& at, const int* tokens,
                                   float (*tile)[STATES_PADDED]) {
  const TYPE_GROUPED* start = (const TYPE_GROUPED*)from.data + at.batch * from.batch + at.group * from.group;
#pragma unroll
  for (int first = 0; first < TILE * STATES; first += LANES) {
    const int i = first + at.lane;
    if (TILE * STATES % LANES && i >= TILE * STATES) continue;
    const int t = from.state == 1 ? i / STATES : i % TILE, n = from.state == 1 ? i % STATES : i / TILE;
    tile[t][n] = to_float(start[(Index)tokens[t] * from.token + (Index)n * from.state]);
  }
}

// The same as [state][step].
__device__ inline void load_states_by_row(const Grouped& from, const Place& at, const int* tokens,
                                          float (*tile)[TILE]) {
  const TYPE_GROUPED* start = (const TYPE_GROUPED*)from.data + at.batch * from.batch + at.group * from.group;
#pragma unroll
  for (int first = 0; first < TILE * STATES; first += LANES) {
    const int i = first + at.lane;
    if (TILE * STATES % LANES && i >= TILE * STATES) continue;
    const int t = from.state == 1 ? i / STATES : i % TILE, n = from.state == 1 ? i % STATES : i / TILE;
    tile[n][t] = to_float(start[(Index)tokens[t] * from.token + (Index)n * from.state]);
  }
}

// 2^x without the special-function units: x = i + f with |f| <= 1/2, 2^f by a polynomial (fitted; relative error 1e-7).
// Saturates outside 2^-126 .. 2^126.
__device__ inline float exp2_polynomial(float x) {
  const float bounded = x < -126.0f ? -126.0f : x > 126.0f ? 126.0f : x;  // what is not a number stays so
  const float shifted = bounded + 12582912.0f;  // 1.5 * 2^23: the sum's last bits are x rounded
  const float f = bounded - (shifted - 12582912.0f);
  float y = 0.00132647f;
  y = y * f + 0.00967151f;
  y = y * f + 0.05550734f;
  y = y * f + 0.24022242f;
  y = y * f + 0.69314698f;
  y = y * f + 1.0f;
  return y * bits_to_float((float_to_bits(shifted) << 23) + 0x3f800000u);
}

// exp2(x); of 16 that follow each other, EXPONENTIALS_ON_FMA by the polynomial. `which` is known to the compiler.
__device__ inline float decay_of(float x, int which) {
  return which % 16 < EXPONENTIALS_ON_FMA ? exp2_polynomial(x) : exp2_fast(x);
}

__device__ inline float softplus(float x) { return x > 20.0f ? x : log1pf(exp2_fast(x * LOG2_E)); }
__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + exp2_fast(-x * LOG2_E)); }

__device__ inline float step_size(const ScanParameters& p, float raw, float bias) {
  return p.softplus ? softplus(raw + bias) : raw + bias;
}

// Of arrays (batch, chunk, state, channel): neighbouring lanes lie side by side.
__device__ inline Index row_of(const ScanParameters& p, const Place& at, Index rows, Index row, int state) {
  return ((at.batch * rows + row) * STATES + state) * p.channels + at.channel;
}
