"""Faults planted in the headers of `csrc/cuda`: a program of the emulator must see each."""

from typing import NamedTuple


class Mutant(NamedTuple):
    """One text replaced by another, where it first stands."""

    header: str
    old: str
    new: str


LAYOUT, FORWARD, BACKWARD = "layout.h", "forward-inl.h", "backward-inl.h"
RECURRENT = "recurrent-inl.h"
GRAD, PACK, HEAD, MATH = "weight_grad-inl.h", "pack-inl.h", "head_grad-inl.h", "math-inl.h"

# The first stands for all where there is little time.
MUTANTS = (
    Mutant(LAYOUT, "((step - 1) >> 1) & 1", "(step >> 1) & 1"),
    Mutant(LAYOUT, "return (lane & 3) << 1;", "return ((lane + 1) & 3) << 1;"),
    Mutant(FORWARD, "m.SyncWarp();\n      m.Arrive(barrier);", "m.Arrive(barrier);"),
    Mutant(BACKWARD, "Cells(step, n, buffer);\n", "Cells(step, n, 0);\n"),
    Mutant(GRAD, "there ? scale : F{}", "scale"),
    # who owns what
    Mutant(LAYOUT, "return lane >> 2;", "return lane & 7;"),
    Mutant(LAYOUT, "(lane >> 2) + (word & 1) * 8", "(lane >> 2) + (word >> 1) * 8"),
    Mutant(LAYOUT, "(word >> 1) * 8 + half", "(word & 1) * 8 + half"),
    Mutant(LAYOUT, "(word >> 1) * 8 + half", "(word >> 1) * 8 + (1 - half)"),
    Mutant(LAYOUT, "return tile * 2 + row / 8;", "return row / 8 * 2 + tile;"),
    Mutant(LAYOUT, "return tile * 2 + (word & 1);", "return (word & 1) * 2 + tile;"),
    Mutant(LAYOUT, "return k_step / kKStepsPerGroup;", "return k_step / kKStepsPerGroup ^ 1;"),
    Mutant(
        LAYOUT,
        "(k_step % kKStepsPerGroup) * 2 + (word >> 1)",
        "(k_step % kKStepsPerGroup) + (word >> 1) * 2",
    ),
    Mutant(LAYOUT, "k_step) * 2 + tile;", "k_step) * 2 + (1 - tile);"),
    Mutant(
        LAYOUT,
        "(plane * V::kTilesPerWarp + tile) * V::kKSteps + k_step",
        "(plane * V::kTilesPerWarp + tile) * V::kKSteps + (k_step ^ 1)",
    ),
    Mutant(LAYOUT, "return lane * 4;", "return T(31) * 4 - lane * 4;"),
    Mutant(LAYOUT, "(V::kHidden - V::kUnits)", "(V::kHidden)"),
    Mutant(LAYOUT, "(V::kHidden - V::kUnits)", "(V::kHidden - V::kUnits) / 2"),
    Mutant(LAYOUT, "V::kCtas * V::kUnits * kTileRows", "(V::kCtas - 1) * V::kUnits * kTileRows"),
    Mutant(LAYOUT, "((step - 1) >> 1) & 1", "(step - 1) & 1"),
    Mutant(LAYOUT, "(buffer * planes + plane) * (hidden", "(0 * buffer + plane) * (hidden"),
    Mutant(LAYOUT, "(buffer * planes + plane) * groups", "(0 * buffer + plane) * groups"),
    Mutant(LAYOUT, "lane * 4 + group * (kLanes * kSavedWords)", "lane * 4 + group * kLanes"),
    Mutant(LAYOUT, "lane * 2 + group * (kLanes * 2)", "lane * 2 + group * kLanes"),
    Mutant(LAYOUT, "kSavedLate = kSavedPart,", "kSavedLate = kSavedPart - 4,"),
    Mutant(LAYOUT, "kLanes * kSavedWords;", "kLanes * (kSavedWords - 4);"),
    Mutant(LAYOUT, "return slot * n / n_slots;", "return slot * (n / n_slots);"),
    Mutant(LAYOUT, "return slot * ((n_timesteps", "return (slot | 1) * ((n_timesteps"),
    Mutant(LAYOUT, "((n_timesteps + 1) / 2)", "(n_timesteps / 2)"),
    Mutant(LAYOUT, "exponent + 127 - biased", "exponent + 97 - biased"),
    Mutant(LAYOUT, "exponent + 127 - biased", "exponent + 137 - biased"),
    Mutant(LAYOUT, "1.0f / (kWeightScale * kStateScale)", "1.0f / (kWeightScale * 255.0f)"),
    Mutant(LAYOUT, "kTruncation = 4.3e-8f", "kTruncation = -4.3e-8f"),
    # forward
    Mutant(FORWARD, "1 + V::kWarps);", "V::kWarps);"),
    Mutant(FORWARD, "      m.SyncCluster();\n", "      m.SyncCta();\n"),
    Mutant(FORWARD, "      m.FenceBarrierInit();\n", ""),
    Mutant(FORWARD, "buffer = step & 1;", "buffer = step & 0;"),
    Mutant(FORWARD, "if (V::kCtas == 1) m.SyncCta();", ""),
    Mutant(FORWARD, "WaitAsync<0>();\n          m.SyncWarp();", "WaitAsync<0>();"),
    Mutant(FORWARD, "WaitAsync<kInputRing - 2>", "WaitAsync<kInputRing - 1>"),
    Mutant(FORWARD, "PrefetchBlock(step + kInputBlock)", "PrefetchBlock(step)"),
    Mutant(
        FORWARD, "words = m.ToLong(first) * s.n_channels", "words = m.ToLong(first * s.n_channels)"
    ),
    Mutant(
        FORWARD, "m.ToLong(input_length) * s.n_channels", "m.ToLong(input_length * s.n_channels)"
    ),
    Mutant(FORWARD, "if (step + 1 < n_steps) Send", "Send"),
    Mutant(
        FORWARD,
        "m.SyncWarp();\n      m.Arrive(barrier);",
        "m.Arrive(barrier);\n      m.SyncWarp();",
    ),
    Mutant(FORWARD, "i < V::kCtas; ++i", "i < V::kCtas - 1; ++i"),
    Mutant(FORWARD, "(rank + i) % V::kCtas", "i % V::kCtas"),
    Mutant(
        FORWARD, "if (warp == 0) m.ArmBarrier(BarrierOf(buffer), StateArrivals<V>());\n      }", "}"
    ),
    Mutant(
        FORWARD, "Send(buffer ^ 1, BarrierOf(buffer ^ 1))", "Send(buffer ^ 1, BarrierOf(buffer))"
    ),
    Mutant(FORWARD, "h[r] = m.Select(on, h_new, h[r]);", "h[r] = h_new;"),
    Mutant(FORWARD, "c[r] = m.Select(on, c_new, c[r]);", "c[r] = c_new;"),
    Mutant(FORWARD, "sum[r] + m.Select(on, h[r], F{})", "sum[r] + h[r]"),
    Mutant(
        FORWARD,
        "h[r] == largest[r], direction != 0",
        "h[r] == largest[r], direction == 0",
    ),
    Mutant(
        FORWARD,
        "m.Or(m.Or(h[r] > largest[r], ties), h[r] != h[r])",
        "m.Or(h[r] > largest[r], ties)",
    ),
    Mutant(FORWARD, "F{} - 2.0f;", "F{};"),
    Mutant(RECURRENT, "time = direction == 0 ? L{}", "time = direction != 2 ? L{}"),
    Mutant(RECURRENT, "(first + V::kInRegisters + f)", "(first + f)"),
    Mutant(RECURRENT, "OfModel() * PackedFragments", "model * PackedFragments"),
    Mutant(FORWARD, "s.n_x_models == 1 ? 0 : model", "0 * model"),
    Mutant(
        FORWARD,
        "row_bytes + static_cast<uint32_t>(channel) * 4",
        "static_cast<uint32_t>(channel) * 4",
    ),
    Mutant(FORWARD, "if (kIsExact) value = m.Fma(value, F{} + kTruncation, value);", ""),
    Mutant(FORWARD, "m.AsFloat(before[V::kPlanes - 1])", "m.AsFloat(before[0])"),
    Mutant(FORWARD, "h[0] * mask[0], h[1] * mask[1]", "h[0] * mask[0], h[1]"),
    Mutant(FORWARD, "m.Select(any, h[r], poison[r])", "h[r]"),
    Mutant(FORWARD, "m.SyncCta();\n    const int64_t tile_of", "const int64_t tile_of"),
    Mutant(FORWARD, "s.n_directions * V::kCtas,", "V::kCtas,"),
    Mutant(FORWARD, "m.LoadFreshIf(", "m.LoadGlobalIf("),
    Mutant(FORWARD, "owns[r], 0.0f) + poison[r];\n      c", "owns[r], 0.0f);\n      c"),
    Mutant(FORWARD, "start[r] = InRange(", "start[r] = ("),
    Mutant(FORWARD, "mask[r] = InRange(", "mask[r] = ("),
    Mutant(FORWARD, "V::kPlanes, 0, plane, other)", "V::kPlanes, 1, plane, other)"),
    Mutant(
        FORWARD,
        "const U word = m.TransposeMatrix(packed_h[plane]);",
        "const U word = packed_h[plane];",
    ),
    Mutant(FORWARD, "Select((row & 1) == I{}, even, odd)", "Select((row & 1) == I{}, odd, even)"),
    Mutant(FORWARD, "its_unit) - m.ToLong(unit)", "its_unit) - m.ToLong(its_unit)"),
    Mutant(FORWARD, "at + width, most", "at + width, mean"),
    Mutant(FORWARD, "distance > 0; distance /= 2", "distance > 1; distance /= 2"),
    # backward
    Mutant(BACKWARD, "kLargestExponent = 10", "kLargestExponent = 20"),
    Mutant(BACKWARD, "      m.SyncCta();\n      Prefetch", "      Prefetch"),
    Mutant(BACKWARD, "      m.SyncCluster();\n", ""),
    Mutant(BACKWARD, "buffer = n & 1;", "buffer = n & 0;"),
    Mutant(BACKWARD, "if (V::kCtas > 1 && n_steps > 0) {", "if (V::kCtas > 16) {"),
    Mutant(BACKWARD, "Take(n_steps - n, own, fresh)", "Take(n_steps - n - 1, own, fresh)"),
    Mutant(BACKWARD, "fresh[r] * mask[own][r]", "fresh[r]"),
    Mutant(BACKWARD, "m.Select(on, dc_now * f, dc[own][r])", "dc_now * f"),
    Mutant(
        BACKWARD,
        "FirstOwner<V>(warp) + i / V::kGroups",
        "V::kCtas - 1 - FirstOwner<V>(warp) - i / V::kGroups",
    ),
    Mutant(BACKWARD, "(buffer * V::kCtas + from) * V", "(buffer * V::kCtas + 0 * from) * V"),
    Mutant(BACKWARD, "(buffer * V::kCtas + from) * V", "(0 * buffer + from) * V"),
    Mutant(BACKWARD, "block[i], back[i & 1]", "block[i], back[0]"),
    Mutant(BACKWARD, "back[1] * (1.0f / kWeightScale)", "back[1]"),
    Mutant(
        BACKWARD, "(buffer * V::kGroups + group) * kTileRows", "(0 * buffer + group) * kTileRows"
    ),
    Mutant(BACKWARD, "distance = 1; distance < 4", "distance = 4; distance < 4"),
    Mutant(BACKWARD, "distance = 4; distance < kLanes", "distance = 8; distance < kLanes"),
    Mutant(BACKWARD, "most = m.Max(most, largest[r]);", "most = largest[r];"),
    Mutant(BACKWARD, "== I{} + step, d_max", "== I{} + n, d_max"),
    Mutant(BACKWARD, "d_mean[own][r] = m.Divide(first, steps)", "d_mean[own][r] = first"),
    Mutant(BACKWARD, "dc_now * cell[own][r] *", "dc_now * c[own][r] *"),
    Mutant(BACKWARD, "Slot(n + 1, own) + 32", "Slot(n, own) + 32"),
    Mutant(BACKWARD, "WaitAsync<kSavedRing - 3>", "WaitAsync<kSavedRing - 2>"),
    Mutant(BACKWARD, "Prefetch(n + kSavedRing - 1)", "Prefetch(n + kSavedRing)"),
    Mutant(BACKWARD, "if (warp == 0) m.ArmBarrier(barrier, PartialArrivals<V>());", ""),
    Mutant(BACKWARD, "LoadOr(p.c_0, StateAt(Unit(own), r)", "LoadOr(p.h_0, StateAt(Unit(own), r)"),
    Mutant(
        BACKWARD, "dh[own][r] = m.Select(on, fresh[r]", "dh[own][r] = m.Select(m.True(), fresh[r]"
    ),
    Mutant(BACKWARD, "pooled_at + width, any", "pooled_at, any"),
    # gradients of weights
    Mutant(GRAD, "back * (1.0f / kStateScale)", "back"),
    Mutant(GRAD, "[2 * later + gate]", "[2 * gate + later]"),
    Mutant(GRAD, "kSavedPart * t", "kSavedPart * (1 - t)"),
    Mutant(
        GRAD, "steps.n_steps < slot.last_step ? steps.n_steps : slot.last_step", "slot.last_step"
    ),
    Mutant(
        GRAD, "last_step = TimeSlotBegin(of_time + 1,", "last_step = 1 + TimeSlotBegin(of_time + 1,"
    ),
    Mutant(GRAD, "exists ? SlotBegin(of_tiles + 1,", "exists ? SlotBegin(of_tiles,"),
    Mutant(
        GRAD,
        "direction == 0 ? L{} + step : m.ToLong(steps",
        "direction == 2 ? L{} : m.ToLong(steps",
    ),
    Mutant(GRAD, "kGradExponent = 12", "kGradExponent = 17"),
    Mutant(GRAD, "slot = 1; slot < p.n_slots", "slot = 2; slot < p.n_slots"),
    Mutant(GRAD, "kGroupUnits + (i & 1))", "kGroupUnits + (1 - (i & 1)))"),
    Mutant(GRAD, "b[column][4 * plane + later]", "b[column][4 * plane + 1 - later]"),
    Mutant(GRAD, "s.n_x_models == 1 ? 0 : model", "0 * model"),
    Mutant(GRAD, "[(gate & 1) * 2 + r], x", "[(gate & 1) * 2], x"),
    # weights
    Mutant(PACK, "m.Abs(scaled) > F{} + kHalfLimit", "m.Abs(scaled) < F{}"),
    Mutant(PACK, "plane == 0 ? planes[0] : planes[kPlanes - 1]", "planes[0]"),
    Mutant(PACK, "gate = lane & 3;", "gate = (lane + 1) & 3;"),
    Mutant(
        PACK, "const bool is_bias = channel == s.n_channels;", "const bool is_bias = channel == 0;"
    ),
    Mutant(PACK, "from < I{} + p.sizes.hidden_size);", "to < I{} + p.sizes.hidden_size);"),
    Mutant(PACK, "index / 2 % k_steps,", "(index / 2 % k_steps ^ 1),"),
    Mutant(
        PACK,
        "group = rank * v.groups",
        "group = (CtaCount(kPlanes, p.sizes.padded_hidden) - 1 - rank) * v.groups",
    ),
    # head
    Mutant(HEAD, "p.grad_pooled == nullptr ? F{}", "true ? F{}"),
    Mutant(HEAD, "? at : n_windows;", "? at : n_windows - 1;"),
    Mutant(HEAD, "F{} + 1.0f", "F{} + 2.0f"),
    Mutant(HEAD, "(model * s.n_classes + k) * width + column", "k * width + column"),
    # arithmetic
    Mutant(MATH, "m.Mma(block, a[kPlanes - 1], b[0], b[1]);", ""),
    Mutant(MATH, "m.Select(below, L{}, ", "m.Select(m.Not(m.True()), L{}, "),
    Mutant(MATH, "m.And(exists, m.Or(below, above))", "m.And(exists, below)"),
    Mutant(MATH, "low - m.LowHalf(words[0])", "low - low"),
    Mutant(MATH, "kTanh7 = -0.0530529395f", "kTanh7 = 0.0530529395f"),
    Mutant(MATH, "kTanh3 = -0.333331496f", "kTanh3 = -0.33333f"),
    Mutant(MATH, "F{} + kExponentLimit", "F{} + 4 * kExponentLimit"),
)
