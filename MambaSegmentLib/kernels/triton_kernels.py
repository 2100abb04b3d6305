"""The kernels of gpu_passes.py in Triton: the passes and buffers of cuda_source/, in blocks of 32 channels.

A program has one warp, so the 32 channels of a block lie in its lanes and everything else of a block in registers. The
walks take one step of all states at a time; the last pass of the way back takes one state of a tile of steps at a time.
Compiled by Triton on the GPU; with TRITON_INTERPRET=1 in the environment before triton is imported, run by NumPy.
"""

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def _softplus(x):
    y = tl.exp2(x * LOG2_E)
    # 1 + y loses digits of a small y: there log(1 + y) = 2 artanh(y / (2 + y)), by its series, right to 1e-8 below 1/2
    r = y / (2.0 + y)
    q = r * r
    series = 2.0 * r * (1.0 + q * (0.33333333 + q * (0.2 + q * (0.14285714 + q * 0.11111111))))
    return tl.where(x > 20.0, x, tl.where(y < 0.5, series, tl.log2(1.0 + y) * 0.6931471805599453))


@triton.jit
def _sigmoid(x):
    return 1.0 / (1.0 + tl.exp2(-x * LOG2_E))


@triton.jit
def _place(channels, groups, chunks, LANES: tl.constexpr):
    """(batch, group, chunk, block in the group, channels of the block, which of them exist)."""
    width = channels // groups
    blocks = (width + LANES - 1) // LANES
    rest = tl.program_id(0)
    block = rest % blocks
    rest = rest // blocks
    group = rest % groups
    rest = rest // groups
    lane = block * LANES + tl.arange(0, LANES)
    return (rest // chunks).to(tl.int64), group.to(tl.int64), rest % chunks, block, group * width + lane, lane < width


@triton.jit
def _token(t, length, n1, n2, s0, s1, s2, IN_ORDER: tl.constexpr, REVERSED: tl.constexpr):
    """Where step t lies; as in scan_common.cu."""
    step = t
    if REVERSED:
        step = length - 1 - t
    if IN_ORDER:
        return step.to(tl.int64)
    rest = step // n2
    return ((rest // n1) * s0 + (rest % n1) * s1 + (step % n2) * s2).to(tl.int64)


@triton.jit
def scan_summary(
    u, delta, B, A, bias, step_sums, carries,
    u_b, u_d, u_l, delta_b, delta_d, delta_l, B_b, B_g, B_n, B_l,
    channels, groups, length, chunks, steps, n1, n2, s0, s1, s2,
    STATES: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr, HAS_BIAS: tl.constexpr, SOFTPLUS: tl.constexpr,
    IN_ORDER: tl.constexpr, REVERSED: tl.constexpr, UNROLL: tl.constexpr,
):  # fmt: skip
    batch, group, chunk, _, d, inside = _place(channels, groups, chunks, LANES)
    n = tl.arange(0, ROWS)
    both = (n < STATES)[:, None] & inside[None, :]
    rate = tl.load(A + d[None, :] * STATES + n[:, None], both, 0.0) * LOG2_E
    shift = tl.zeros([LANES], tl.float32)
    if HAS_BIAS:
        shift = tl.load(bias + d, inside, 0.0)
    u_row = u + batch * u_b + d.to(tl.int64) * u_d
    delta_row = delta + batch * delta_b + d.to(tl.int64) * delta_d
    B_row = B + batch * B_b + group * B_g + n.to(tl.int64) * B_n
    state = tl.zeros([ROWS, LANES], tl.float32)
    total = tl.zeros([LANES], tl.float32)
    first = chunk * steps
    for t in tl.range(first, tl.minimum(first + steps, length), loop_unroll_factor=UNROLL):
        at = _token(t, length, n1, n2, s0, s1, s2, IN_ORDER, REVERSED)
        step = tl.load(delta_row + at * delta_l, inside, 0.0).to(tl.float32) + shift
        if SOFTPLUS:
            step = _softplus(step)
        drive = step * tl.load(u_row + at * u_l, inside, 0.0).to(tl.float32)
        b = tl.load(B_row + at * B_l, n < STATES, 0.0).to(tl.float32)
        state = tl.exp2(rate * step[None, :]) * state + b[:, None] * drive[None, :]
        total += step
    row = batch * chunks + chunk
    tl.store(step_sums + row * channels + d, total, inside)
    tl.store(carries + (row * STATES + n[:, None]) * channels + d[None, :], state, both)


@triton.jit
def scan_finish(
    u, delta, z, B, C, A, D, bias, carries, initial, y, last,
    u_b, u_d, u_l, delta_b, delta_d, delta_l, z_b, z_d, z_l, y_b, y_d, y_l, B_b, B_g, B_n, B_l, C_b, C_g, C_n, C_l,
    channels, groups, length, chunks, steps, n1, n2, s0, s1, s2,
    STATES: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr, HAS_D: tl.constexpr, HAS_BIAS: tl.constexpr,
    HAS_Z: tl.constexpr, HAS_CARRIES: tl.constexpr, HAS_INITIAL: tl.constexpr, HAS_LAST: tl.constexpr,
    SOFTPLUS: tl.constexpr, ACCUMULATE: tl.constexpr, IN_ORDER: tl.constexpr, REVERSED: tl.constexpr,
    UNROLL: tl.constexpr,
):  # fmt: skip
    batch, group, chunk, _, d, inside = _place(channels, groups, chunks, LANES)
    n = tl.arange(0, ROWS)
    both = (n < STATES)[:, None] & inside[None, :]
    rate = tl.load(A + d[None, :] * STATES + n[:, None], both, 0.0) * LOG2_E
    shift = tl.zeros([LANES], tl.float32)
    if HAS_BIAS:
        shift = tl.load(bias + d, inside, 0.0)
    skip = tl.zeros([LANES], tl.float32)
    if HAS_D:
        skip = tl.load(D + d, inside, 0.0)
    u_row = u + batch * u_b + d.to(tl.int64) * u_d
    delta_row = delta + batch * delta_b + d.to(tl.int64) * delta_d
    z_row = z + batch * z_b + d.to(tl.int64) * z_d
    y_row = y + batch * y_b + d.to(tl.int64) * y_d
    B_row = B + batch * B_b + group * B_g + n.to(tl.int64) * B_n
    C_row = C + batch * C_b + group * C_g + n.to(tl.int64) * C_n
    whole = (batch * channels + d[None, :]) * STATES + n[:, None]  # in (B, D, N)
    state = tl.zeros([ROWS, LANES], tl.float32)
    if HAS_CARRIES:
        state = tl.load(carries + ((batch * chunks + chunk) * STATES + n[:, None]) * channels + d[None, :], both, 0.0)
    elif HAS_INITIAL:
        state = tl.load(initial + whole, both, 0.0)
    first = chunk * steps
    for t in tl.range(first, tl.minimum(first + steps, length), loop_unroll_factor=UNROLL):
        at = _token(t, length, n1, n2, s0, s1, s2, IN_ORDER, REVERSED)
        step = tl.load(delta_row + at * delta_l, inside, 0.0).to(tl.float32) + shift
        if SOFTPLUS:
            step = _softplus(step)
        x = tl.load(u_row + at * u_l, inside, 0.0).to(tl.float32)
        b = tl.load(B_row + at * B_l, n < STATES, 0.0).to(tl.float32)
        c = tl.load(C_row + at * C_l, n < STATES, 0.0).to(tl.float32)
        state = tl.exp2(rate * step[None, :]) * state + b[:, None] * (step * x)[None, :]
        out = tl.sum(state * c[:, None], 0) + skip * x
        if HAS_Z:
            gate = tl.load(z_row + at * z_l, inside, 0.0).to(tl.float32)
            out = out * gate * _sigmoid(gate)
        place = y_row + at * y_l
        if ACCUMULATE:
            out += tl.load(place, inside, 0.0).to(tl.float32)
        tl.store(place, out.to(y.dtype.element_ty), inside)
    if HAS_LAST and chunk + 1 == chunks:
        tl.store(last + whole, state, both)


@triton.jit
def scan_combine(
    A, step_sums, carries, initial, last, channels, chunks,
    STATES: tl.constexpr, LANES: tl.constexpr, SEGMENTS: tl.constexpr, HAS_INITIAL: tl.constexpr,
    BACKWARDS: tl.constexpr,
):  # fmt: skip
    """As scan_combine.cu: segments of chunks summed up side by side, then joined, then walked from what enters them."""
    blocks = (channels + LANES - 1) // LANES
    d = tl.program_id(0) % blocks * LANES + tl.arange(0, LANES)
    inside = d < channels
    n = tl.program_id(0) // blocks % STATES
    batch = (tl.program_id(0) // blocks // STATES).to(tl.int64)
    rate = tl.load(A + d * STATES + n, inside, 0.0) * LOG2_E
    whole = (batch * channels + d) * STATES + n
    each = (chunks + SEGMENTS - 1) // SEGMENTS
    segment = tl.arange(0, SEGMENTS)
    decay = tl.full([SEGMENTS, LANES], 1.0, tl.float32)
    source = tl.zeros([SEGMENTS, LANES], tl.float32)
    for i in range(each):
        k = segment * each + i
        exists = (k < chunks)[:, None] & inside[None, :]
        if BACKWARDS:
            k = chunks - 1 - k
        row = (batch * chunks + k)[:, None]
        # a chunk that does not exist has no steps and no source: it changes nothing
        a = tl.exp2(rate[None, :] * tl.load(step_sums + row * channels + d[None, :], exists, 0.0))
        source = a * source + tl.load(carries + (row * STATES + n) * channels + d[None, :], exists, 0.0)
        decay = a * decay
    carry = tl.zeros([LANES], tl.float32)
    if HAS_INITIAL:
        carry = tl.load(initial + whole, inside, 0.0)
    entering = tl.zeros([SEGMENTS, LANES], tl.float32)
    for i in range(SEGMENTS):
        this = (segment == i)[:, None]
        entering = tl.where(this, carry[None, :], entering)
        carry = tl.sum(tl.where(this, decay, 0.0), 0) * carry + tl.sum(tl.where(this, source, 0.0), 0)
    tl.store(last + whole, carry, inside)
    for i in range(each):
        k = segment * each + i
        exists = (k < chunks)[:, None] & inside[None, :]
        if BACKWARDS:
            k = chunks - 1 - k
        row = (batch * chunks + k)[:, None]
        a = tl.exp2(rate[None, :] * tl.load(step_sums + row * channels + d[None, :], exists, 0.0))
        place = carries + (row * STATES + n) * channels + d[None, :]
        source = tl.load(place, exists, 0.0)
        tl.store(place, entering, exists)
        entering = a * entering + source


@triton.jit
def scan_back_summary(
    u, delta, z, dy, B, C, A, bias, carries, initial, adjoints, step_sums, tile_states,
    u_b, u_d, u_l, delta_b, delta_d, delta_l, z_b, z_d, z_l, dy_b, dy_d, dy_l, B_b, B_g, B_n, B_l, C_b, C_g, C_n, C_l,
    channels, groups, length, chunks, steps, n1, n2, s0, s1, s2,
    STATES: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr, TILE: tl.constexpr, HAS_BIAS: tl.constexpr,
    HAS_Z: tl.constexpr, HAS_CARRIES: tl.constexpr, HAS_INITIAL: tl.constexpr, HAS_ADJOINTS: tl.constexpr,
    SOFTPLUS: tl.constexpr, IN_ORDER: tl.constexpr, REVERSED: tl.constexpr, UNROLL: tl.constexpr,
):  # fmt: skip
    batch, group, chunk, _, d, inside = _place(channels, groups, chunks, LANES)
    n = tl.arange(0, ROWS)
    both = (n < STATES)[:, None] & inside[None, :]
    rate = tl.load(A + d[None, :] * STATES + n[:, None], both, 0.0) * LOG2_E
    shift = tl.zeros([LANES], tl.float32)
    if HAS_BIAS:
        shift = tl.load(bias + d, inside, 0.0)
    u_row = u + batch * u_b + d.to(tl.int64) * u_d
    delta_row = delta + batch * delta_b + d.to(tl.int64) * delta_d
    z_row = z + batch * z_b + d.to(tl.int64) * z_d
    dy_row = dy + batch * dy_b + d.to(tl.int64) * dy_d
    B_row = B + batch * B_b + group * B_g + n.to(tl.int64) * B_n
    C_row = C + batch * C_b + group * C_g + n.to(tl.int64) * C_n
    entry = n[:, None] * channels + d[None, :]  # in the last two axes of (.., N, D)
    state = tl.zeros([ROWS, LANES], tl.float32)
    if HAS_CARRIES:
        state = tl.load(carries + (batch * chunks + chunk) * STATES * channels + entry, both, 0.0)
    elif HAS_INITIAL:
        state = tl.load(initial + (batch * channels + d[None, :]) * STATES + n[:, None], both, 0.0)
    decay = tl.full([ROWS, LANES], 1.0, tl.float32)
    adjoint = tl.zeros([ROWS, LANES], tl.float32)
    total = tl.zeros([LANES], tl.float32)
    tiles = (length + TILE - 1) // TILE
    first = chunk * steps
    for t in tl.range(first, tl.minimum(first + steps, length), loop_unroll_factor=UNROLL):
        if t % TILE == 0:
            tl.store(tile_states + (batch * tiles + t // TILE) * STATES * channels + entry, state, both)
        at = _token(t, length, n1, n2, s0, s1, s2, IN_ORDER, REVERSED)
        step = tl.load(delta_row + at * delta_l, inside, 0.0).to(tl.float32) + shift
        if SOFTPLUS:
            step = _softplus(step)
        drive = step * tl.load(u_row + at * u_l, inside, 0.0).to(tl.float32)
        upstream = tl.load(dy_row + at * dy_l, inside, 0.0).to(tl.float32)
        if HAS_Z:
            gate = tl.load(z_row + at * z_l, inside, 0.0).to(tl.float32)
            upstream = upstream * gate * _sigmoid(gate)
        b = tl.load(B_row + at * B_l, n < STATES, 0.0).to(tl.float32)
        c = tl.load(C_row + at * C_l, n < STATES, 0.0).to(tl.float32)
        a = tl.exp2(rate * step[None, :])
        state = a * state + b[:, None] * drive[None, :]
        decay = decay * a
        adjoint += decay * (c[:, None] * upstream[None, :])
        total += step
    if HAS_ADJOINTS:
        row = batch * chunks + chunk
        tl.store(step_sums + row * channels + d, total, inside)
        tl.store(adjoints + row * STATES * channels + entry, adjoint, both)


@triton.jit
def _then(decay, source, later_decay, later_source):
    """Two steps of s -> decay s + source as one."""
    return decay * later_decay, later_decay * source + later_source


@triton.jit
def scan_back_finish(
    u, delta, z, dy, B, C, A, D, bias, adjoints, tile_states, du, ddelta, dz, dB, dC, dA, dD, dbias,
    u_b, u_d, u_l, delta_b, delta_d, delta_l, z_b, z_d, z_l, dy_b, dy_d, dy_l, B_b, B_g, B_n, B_l, C_b, C_g, C_n, C_l,
    du_b, du_d, du_l, ddelta_b, ddelta_d, ddelta_l, dz_b, dz_d, dz_l,
    batches, channels, groups, length, chunks, steps, n1, n2, s0, s1, s2,
    STATES: tl.constexpr, LANES: tl.constexpr, TILE: tl.constexpr, HAS_D: tl.constexpr, HAS_BIAS: tl.constexpr,
    HAS_Z: tl.constexpr, SOFTPLUS: tl.constexpr, ACCUMULATE: tl.constexpr, IN_ORDER: tl.constexpr,
    REVERSED: tl.constexpr,
):  # fmt: skip
    """`adjoints` holds what enters a chunk from its end, and afterwards what leaves at its start."""
    batch, group, chunk, block, d, inside = _place(channels, groups, chunks, LANES)
    row = batch * chunks + chunk
    i = tl.arange(0, TILE)
    shift = tl.zeros([LANES], tl.float32)
    if HAS_BIAS:
        shift = tl.load(bias + d, inside, 0.0)
    skip = tl.zeros([LANES], tl.float32)
    if HAS_D:
        skip = tl.load(D + d, inside, 0.0)
    wide = d.to(tl.int64)[None, :]
    d_skip = tl.zeros([LANES], tl.float32)
    d_bias = tl.zeros([LANES], tl.float32)
    tiles = (length + TILE - 1) // TILE
    begin = chunk * steps
    end = tl.minimum(begin + steps, length)
    count = (end - begin + TILE - 1) // TILE
    for back in range(count):
        tile = (end - 1) // TILE - back
        t = tile * TILE + i
        there = t < end
        both = there[:, None] & inside[None, :]
        at = _token(t, length, n1, n2, s0, s1, s2, IN_ORDER, REVERSED)
        raw = tl.load(delta + batch * delta_b + wide * delta_d + at[:, None] * delta_l, both, 0.0).to(tl.float32)
        raw = raw + shift[None, :]
        step = raw
        after = tl.where(t + 1 < end, t + 1, t)
        at_after = _token(after, length, n1, n2, s0, s1, s2, IN_ORDER, REVERSED)
        step_after = (
            tl.load(delta + batch * delta_b + wide * delta_d + at_after[:, None] * delta_l, both, 0.0).to(tl.float32)
            + shift[None, :]
        )
        if SOFTPLUS:
            step = _softplus(raw)
            step_after = _softplus(step_after)
        # beyond the last step nothing happens: the state and its derivative pass unchanged
        step = tl.where(both, step, 0.0)
        step_after = tl.where((t + 1 < end)[:, None] & inside[None, :], step_after, 0.0)
        x = tl.load(u + batch * u_b + wide * u_d + at[:, None] * u_l, both, 0.0).to(tl.float32)
        d_out = tl.load(dy + batch * dy_b + wide * dy_d + at[:, None] * dy_l, both, 0.0).to(tl.float32)
        upstream = d_out
        if HAS_Z:
            gate = tl.load(z + batch * z_b + wide * z_d + at[:, None] * z_l, both, 0.0).to(tl.float32)
            upstream = d_out * gate * _sigmoid(gate)
        drive = step * x
        d_drive = tl.zeros([TILE, LANES], tl.float32)
        d_step = tl.zeros([TILE, LANES], tl.float32)
        out = skip[None, :] * x
        b_place = B + batch * B_b + group * B_g + at * B_l
        c_place = C + batch * C_b + group * C_g + at * C_l
        for n in range(STATES):
            rate = tl.load(A + d * STATES + n, inside, 0.0)
            b = tl.load(b_place, there, 0.0).to(tl.float32)
            c = tl.load(c_place, there, 0.0).to(tl.float32)
            before = tl.load(tile_states + ((batch * tiles + tile) * STATES + n) * channels + d, inside, 0.0)
            kept = dA + (row * STATES + n) * channels + d
            carried = adjoints + (row * STATES + n) * channels + d
            handed = tl.load(carried, inside, 0.0)
            a = tl.exp2(step * (rate * LOG2_E)[None, :])
            source = b[:, None] * drive
            entering = tl.where((i == 0)[:, None], a * before[None, :], 0.0)
            _, state = tl.associative_scan((a, source + entering), 0, _then)
            out += state * c[:, None]
            a_after = tl.exp2(step_after * (rate * LOG2_E)[None, :])
            handed_on = tl.where((i == TILE - 1)[:, None], handed[None, :], 0.0)
            _, g = tl.associative_scan((a_after, c[:, None] * upstream + handed_on), 0, _then, reverse=True)
            d_exponent = g * (state - source)  # a s_(t-1) is what the state has beside its source
            d_drive += g * b[:, None]
            d_step += d_exponent * rate[None, :]
            tl.store(carried, tl.sum(tl.where((i == 0)[:, None], a * g, 0.0), 0), inside)
            d_rate = tl.sum(d_exponent * step, 0)
            if back > 0:
                d_rate += tl.load(kept, inside, 0.0)
            tl.store(kept, d_rate, inside)
            place = (((block * batches + batch) * groups + group) * length + at) * STATES + n
            tl.store(dB + place, tl.sum(g * drive, 1), there)
            tl.store(dC + place, tl.sum(state * upstream, 1), there)
            b_place += B_n
            c_place += C_n
        d_raw = d_step + d_drive * x
        if SOFTPLUS:
            d_raw = d_raw * _sigmoid(raw)
        d_x = d_drive * step + skip[None, :] * upstream
        place = du + batch * du_b + wide * du_d + at[:, None] * du_l
        written = d_x
        if ACCUMULATE:
            written += tl.load(place, both, 0.0).to(tl.float32)
        tl.store(place, written.to(du.dtype.element_ty), both)
        tl.store(
            ddelta + batch * ddelta_b + wide * ddelta_d + at[:, None] * ddelta_l,
            d_raw.to(ddelta.dtype.element_ty), both,
        )  # fmt: skip
        if HAS_Z:
            s = _sigmoid(gate)
            d_gate = d_out * out * s * (1.0 + gate * (1.0 - s))
            tl.store(dz + batch * dz_b + wide * dz_d + at[:, None] * dz_l, d_gate.to(dz.dtype.element_ty), both)
        d_skip += tl.sum(upstream * x, 0)
        d_bias += tl.sum(tl.where(both, d_raw, 0.0), 0)
    tl.store(dD + row * channels + d, d_skip, inside)
    tl.store(dbias + row * channels + d, d_bias, inside)
