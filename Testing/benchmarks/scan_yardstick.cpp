// The forward scan in C++: what a compiler makes of the same algorithm, as the yardstick of the compiled Python kernels.
//
// Channels-last float32 only: u, delta, z, y (L, D) and B, C (L, N), D a multiple of 16, N a multiple of 8. A tile of 64
// steps and 16 channels at a time, 8 states through the tile together, softplus and the gate by polynomials, the next
// tile prefetched line by line. Threads share out the blocks of channels; up to 4 neighbouring ones go side by side.
#include <algorithm>
#include <cstdint>

#if defined(__AVX512DQ__)
#include <immintrin.h>
#endif

namespace {

constexpr int kLanes = 16, kTile = 64, kStates = 8, kTogether = 4, kMostStates = 64;
constexpr float kLog2E = 1.4426950408889634f;

typedef float Vec __attribute__((vector_size(64)));
typedef float UnalignedVec __attribute__((vector_size(64), aligned(4)));
typedef int32_t Bits __attribute__((vector_size(64)));

inline Vec all(float value) { return value - Vec{}; }
inline Vec load(const float* from) { return *reinterpret_cast<const UnalignedVec*>(from); }
inline void store(float* to, Vec value) { *reinterpret_cast<UnalignedVec*>(to) = value; }

template <int Count>
inline Vec polynomial(Vec x, const float (&coefficients)[Count]) {
  Vec value = all(coefficients[Count - 1]);
  for (int i = Count - 2; i >= 0; --i) value = value * x + all(coefficients[i]);
  return value;
}

constexpr float kFraction[] = {1.f, 0.693151739f, 0.240159271f, 0.055818676f, 0.00899099511f, 0.00187931864f};
constexpr float kLog1p[] = {0.999999975f, -0.499995526f, 0.333203435f, -0.248529456f, 0.191451159f,
                            -0.137466211f, 0.0792107279f, -0.0301109576f, 0.00538406008f};
constexpr float kInverse[] = {0.999999956f, -0.999991114f, 0.99969933f, -0.995964503f, 0.971688131f,
                              -0.881056362f, 0.675075103f, -0.385343269f, 0.139071242f, -0.0231785383f};

inline Vec exp2(Vec x) {
#if defined(__AVX512DQ__)
  Vec fraction = (Vec)_mm512_reduce_ps((__m512)x, 9);
  return (Vec)_mm512_scalef_ps((__m512)polynomial(fraction, kFraction), (__m512)x);
#else
  Vec limited = x < all(-126.f) ? all(-126.f) : x;
  Bits whole = __builtin_convertvector(limited, Bits);  // towards zero; negative numbers go one further down
  whole += __builtin_convertvector(whole, Vec) > limited;
  Vec power = (Vec)((whole + 127) << 23);
  return polynomial(limited - __builtin_convertvector(whole, Vec), kFraction) * power;
#endif
}

inline Vec exp_of_minus_absolute(Vec x) { return exp2((x < Vec{} ? x : -x) * all(kLog2E)); }

inline Vec softplus(Vec x) {
  Vec t = exp_of_minus_absolute(x);
  return (x > Vec{} ? x : Vec{}) + t * polynomial(t, kLog1p);
}

inline Vec silu(Vec x) {
  Vec t = exp_of_minus_absolute(x);
  Vec inverse = polynomial(t, kInverse);
  return x * (x < Vec{} ? t * inverse : inverse);
}

// s = exp(step A) s + drive B; out += s C, for kStates states of kLanes channels over one tile
inline void advance(const float* step, const float* drive, float* out, const float* a_log2, float* states,
                    const float* b, const float* c, int64_t by_row, int rows, const float* next, const float* next2,
                    int64_t by_line) {
  Vec a[kStates], s[kStates];
  for (int n = 0; n < kStates; ++n) a[n] = load(a_log2 + n * kLanes), s[n] = load(states + n * kLanes);
  for (int t = 0; t < rows; ++t) {
    __builtin_prefetch(next + t * by_line, 0, 2);
    __builtin_prefetch(next2 + t * by_line, 0, 2);
    Vec step_t = load(step + t * kLanes), drive_t = load(drive + t * kLanes), y = load(out + t * kLanes);
    for (int n = 0; n < kStates; ++n) {
      s[n] = exp2(step_t * a[n]) * s[n] + drive_t * all(b[t * by_row + n]);
      y += s[n] * all(c[t * by_row + n]);
    }
    store(out + t * kLanes, y);
  }
  for (int n = 0; n < kStates; ++n) store(states + n * kLanes, s[n]);
}

}  // namespace

extern "C" void scan_forward(int64_t length, int64_t channels, int64_t states, const float* u, const float* delta,
                             const float* A, const float* B, const float* C, const float* D, const float* z,
                             const float* bias, float* y, int threads) {
  const int64_t blocks = channels / kLanes;
  int64_t together = kTogether;  // as long as no thread has more to do
  while (together > 1 && (blocks % together != 0 || blocks / together % threads != 0)) --together;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t group = 0; group < blocks; group += together) {
    alignas(64) float step[kTile * kLanes], drive[kTile * kLanes], out[kTile * kLanes];
    alignas(64) float a_log2[kTogether][kMostStates * kLanes], s[kTogether][kMostStates * kLanes] = {};
    for (int64_t member = 0; member < together; ++member)
      for (int64_t n = 0; n < states; ++n)
        for (int k = 0; k < kLanes; ++k)
          a_log2[member][n * kLanes + k] = A[((group + member) * kLanes + k) * states + n] * kLog2E;
    for (int64_t start = 0; start < length; start += kTile) {
      const int rows = static_cast<int>(std::min<int64_t>(kTile, length - start));
      for (int64_t member = 0; member < together; ++member) {
        const int64_t channel = (group + member) * kLanes, first = start * channels + channel;
        const int64_t next = first + (start + kTile < length) * kTile * channels;
        for (int t = 0; t < rows; ++t) {
          Vec x = load(u + first + t * channels);
          Vec d = softplus(load(delta + first + t * channels) + load(bias + channel));
          store(step + t * kLanes, d);
          store(drive + t * kLanes, d * x);
          store(out + t * kLanes, x * load(D + channel));
        }
        for (int64_t n = 0; n < states; n += kStates)
          advance(step, drive, out, a_log2[member] + n * kLanes, s[member] + n * kLanes, B + start * states + n,
                  C + start * states + n, states, rows, n == 0 ? u + next : z + next, n == 0 ? delta + next : y + next,
                  channels);
        for (int t = 0; t < rows; ++t)
          store(y + first + t * channels, load(out + t * kLanes) * silu(load(z + first + t * channels)));
      }
    }
  }
}
