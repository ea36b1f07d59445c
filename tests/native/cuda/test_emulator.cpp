// Tests of the CUDA emulator itself: small programs with undefined behavior must fault under every
// schedule, and must run without a fault after the missing synchronization is added.
#include <algorithm>

#include "emulator.h"
#include "harness.h"

using namespace emulator;
using harness::Check;

namespace {

using Body = std::function<void(Machine&)>;
constexpr int kSeeds = 60;
int g_programs;

int32_t g_arrived[1];

std::string FaultOf(int n_ctas, int n_warps, uint32_t seed, const Body& body) {
  g_arrived[0] = 0;
  Order orders[] = {Order::kRandom, Order::kRandom, Order::kMessagesFirst, Order::kMessagesLast};
  Options options{seed, orders[seed % 4], -1, -1};
  if (seed % 5 == 0) options.starved_warp = static_cast<int>(seed) % n_warps;
  if (seed % 7 == 0) options.starved_cta = static_cast<int>(seed) % n_ctas;
  try {
    Cluster cluster(n_ctas, n_warps, 2048, options);
    cluster.Run([&](int rank, int warp) {
      Machine m(cluster, rank, warp, 0, 0, 0);
      body(m);
    });
  } catch (const Fault& fault) {
    return fault.what();
  }
  return "";
}

// `faults` lists a part of each possible message.
void Faults(const std::string& what, int n_ctas, int n_warps, const Body& body,
            const std::vector<std::string>& faults) {
  ++g_programs;
  for (uint32_t seed = 1; seed <= kSeeds; ++seed) {
    const std::string fault = FaultOf(n_ctas, n_warps, seed, body);
    const bool is_right = std::any_of(faults.begin(), faults.end(), [&](const std::string& part) {
      return fault.find(part) != std::string::npos;
    });
    Check(is_right, what + ": '" + fault + "' with seed " + std::to_string(seed));
  }
}
void Runs(const std::string& what, int n_ctas, int n_warps, const Body& body) {
  ++g_programs;
  for (uint32_t seed = 1; seed <= kSeeds; ++seed) {
    const std::string fault = FaultOf(n_ctas, n_warps, seed, body);
    Check(fault.empty(), what + ": '" + fault + "' with seed " + std::to_string(seed));
  }
}

const U kLane = Machine::Lane();
constexpr uint32_t kData = 256;
const U kOwn = kLane * 8 + kData;                 // a pair of words for every lane
const U kNext = ((kLane + 1) & 31u) * 8 + kData;  // the next lane's
float g_memory[64];

void Write(Machine& m, const U& at = kOwn) { m.StoreSharedPairIf(B(true), at, F(1), F(2)); }
void Read(Machine& m, const U& at = kOwn) {
  F x, y;
  m.LoadSharedPair(at, &x, &y);
}

void Warps() {
  for (bool synced : {true, false}) {
    auto Try = synced ? [](const std::string& what, const Body& body,
                           const std::vector<std::string>&) { Runs(what, 1, 2, body); }
                      : [](const std::string& what, const Body& body,
                           const std::vector<std::string>& faults) {
                          Faults(what + " out of order", 1, 2, body, faults);
                        };
    auto Sync = [=](Machine& m) { synced ? m.SyncCta() : m.SyncWarp(); };
    Try("a warp reads another warp's write",
        [=](Machine& m) {
          if (m.Warp() == 0) Write(m);
          Sync(m);
          if (m.Warp() == 1) Read(m);
        },
        {"a read races with a write", "before it was written", "may still read"});
    Try("a warp writes over another warp's write",
        [=](Machine& m) {
          if (m.Warp() == 0) Write(m);
          Sync(m);
          if (m.Warp() == 1) Write(m);
        },
        {"a write races with a write"});
    Try("a warp writes while another reads",
        [=](Machine& m) {
          if (m.Warp() == 0) Write(m);
          m.SyncCta();
          if (m.Warp() == 1) Read(m);
          Sync(m);
          if (m.Warp() == 0) Write(m);
        },
        {"may still read", "a read races with a write"});
    Try("global memory that another warp wrote",
        [=](Machine& m) {
          if (m.Warp() == 0) m.StoreGlobalIf(B(true), g_memory, L(kLane), F(1));
          Sync(m);
          m.SyncWarp();
          if (m.Warp() == 1) m.StoreGlobalIf(B(true), g_memory, L(kLane), F(2));
        },
        {"a write to global memory races"});
  }
  for (bool synced : {true, false}) {
    auto Sync = [=](Machine& m) {
      if (synced) m.SyncWarp();
    };
    auto Try = [=](const std::string& what, const Body& body, const std::string& fault) {
      if (synced) {
        Runs(what, 1, 1, body);
      } else {
        Faults(what + " without a __syncwarp", 1, 1, body, {fault});
      }
    };
    Try(
        "a lane reads another's",
        [=](Machine& m) {
          Write(m);
          Sync(m);
          Read(m, kNext);
        },
        "a lane reads another lane's write");
    Try(
        "a lane writes another's",
        [=](Machine& m) {
          Write(m);
          Sync(m);
          Write(m, kNext);
        },
        "two lanes write one place");
    Try(
        "a lane writes while another reads",
        [=](Machine& m) {
          Write(m);
          m.SyncWarp();
          Read(m, kNext);
          Sync(m);
          Write(m);
        },
        "a lane overwrites another lane's read");
    Try(
        "stmatrix, then ldmatrix",
        [=](Machine& m) {
          const U x[4] = {};
          U y[4];
          m.StoreMatrices(kData, x);
          Sync(m);
          m.LoadMatrices(kData, y);
        },
        "a lane reads another lane's write");
    Try(
        "ldmatrix, then stmatrix",
        [=](Machine& m) {
          const U x[4] = {};
          U y[4];
          m.StoreMatrices(kData, x);
          m.SyncWarp();
          m.LoadMatrices(kData, y);
          Sync(m);
          m.StoreMatrix(kData, x[0]);
        },
        "a lane overwrites another lane's read");
    Try(
        "a copy that another lane waited for",
        [=](Machine& m) {
          m.CopyAsyncPair(kOwn, g_memory, L(kLane) * 2);
          m.CommitAsync();
          m.SyncWarp();
          m.WaitAsync<0>();
          Sync(m);
          Read(m, kNext);
        },
        "a lane reads another lane's write");
  }
  Runs("a lane reads and writes its own", 1, 1, [](Machine& m) {
    Write(m);
    Read(m);
    Write(m);
  });
  Faults("shared memory is read first", 1, 1, [](Machine& m) { Read(m); },
         {"before it was written"});
  Faults("a read out of bounds", 1, 1, [](Machine& m) { Read(m, kLane * 8 + 2048); },
         {"outside shared memory"});
  Faults("a misaligned read", 1, 1, [](Machine& m) { Read(m, kLane * 8 + 4); }, {"misaligned"});
  Faults("a misaligned matrix", 1, 1, [](Machine& m) { m.StoreMatrix(kData + 8, U{}); },
         {"misaligned"});
}

void Copies() {
  auto Copy = [](Machine& m, uint32_t at) {
    m.CopyAsyncPair(kLane * 8 + at, g_memory, L(kLane) * 2);
    m.CommitAsync();
  };
  Runs("a copy is waited for", 1, 1, [=](Machine& m) {
    Copy(m, kData);
    Copy(m, kData + 256);
    m.WaitAsync<1>();
    Read(m);
    m.WaitAsync<0>();
    Read(m, kOwn + 256);
  });
  Faults("a copy is not waited for", 1, 1,
         [=](Machine& m) {
           Copy(m, kData);
           Copy(m, kData + 256);
           m.WaitAsync<1>();
           Read(m, kOwn + 256);
         },
         {"before it was waited for"});
  Faults("a copy is not in a group yet", 1, 1,
         [=](Machine& m) {
           m.CopyAsyncPair(kOwn, g_memory, L(kLane) * 2);
           m.WaitAsync<0>();
           Read(m);
         },
         {"before it was waited for"});
  Faults("a copy onto data that is read", 1, 1,
         [=](Machine& m) {
           Write(m);
           m.SyncWarp();
           Read(m, kNext);
           Copy(m, kData);
         },
         {"a lane overwrites another lane's read"});
  Faults("a write onto a copy", 1, 1,
         [=](Machine& m) {
           Copy(m, kData);
           Write(m);
         },
         {"a write races with a copy"});
  Faults("a copy's source changes", 1, 1,
         [=](Machine& m) {
           m.StoreGlobalIf(B(true), g_memory, L(kLane) * 2, F(3));
           Copy(m, kData);
           m.StoreGlobalIf(B(true), g_memory, L(kLane) * 2, F(4));
           m.WaitAsync<0>();
         },
         {"a copy's source changed"});
  Faults("another warp reads a copy before it landed", 1, 2,
         [=](Machine& m) {
           if (m.Warp() == 0) Copy(m, kData);
           m.SyncCta();
           if (m.Warp() == 0) m.WaitAsync<0>();
           if (m.Warp() == 1) Read(m);
         },
         {"before it was waited for", "a read races with a write"});
  Runs("another warp reads a copy that landed", 1, 2, [=](Machine& m) {
    if (m.Warp() == 0) {
      Copy(m, kData);
      m.WaitAsync<0>();
    }
    m.SyncCta();
    if (m.Warp() == 1) Read(m);
  });
}

// Two CTAs with one warp each send each other a word per lane, `n` times, in two buffers.
struct Exchange {
  uint32_t bytes = 128;
  int n = 4;
  bool is_fenced = true, syncs_cluster = true, expects_bytes = true, two_buffers = true,
       waits_last = true, reads = true;
  uint32_t parity_off = 0;
  int to = 1;  // the next CTA

  void operator()(Machine& m) const {
    for (uint32_t b : {0u, 1u}) m.InitBarrier(8 * b, 1);
    if (is_fenced) m.FenceBarrierInit();
    for (uint32_t b : {0u, 1u}) m.ArmBarrier(8 * b, bytes);
    if (syncs_cluster) m.SyncCluster();
    for (int i = 0; i < n; ++i) {
      const auto b = static_cast<uint32_t>(two_buffers ? i % 2 : 0);
      const U at = kLane * 4 + (kData + 128 * b);
      m.SendWord(at, kLane, (m.Rank() + to) % 2, 8 * b);
      if (i == n - 1 && !waits_last) break;
      m.WaitBarrier(8 * b, (static_cast<uint32_t>(two_buffers ? i / 2 : i) + parity_off) & 1);
      if (expects_bytes) m.ArmBarrier(8 * b, bytes);
      if (reads) m.LoadSharedFloat(at);
    }
  }
};

void Messages() {
  Runs("two CTAs exchange", 2, 1, Exchange{});
  Exchange e;
  e.is_fenced = false;
  Faults("no fence after the barriers' making", 2, 1, e, {"no fence"});
  e = {};
  e.syncs_cluster = false;
  Faults("no cluster barrier", 2, 1, e, {"before it exists"});
  e = {};
  e.bytes = 64;
  e.reads = false;
  Faults("half the bytes are waited for", 2, 1, e,
         {"deadlock", "lapped", "races", "may still read", "may have", "nobody has waited for",
          "has left"});
  e = {};
  e.bytes = 132;
  Faults("more bytes are waited for than come", 2, 1, e, {"deadlock"});
  e = {};
  e.waits_last = false;
  Faults("the last message is not waited for", 2, 1, e, {"has left", "nobody has waited for"});
  e = {};
  e.two_buffers = false;
  Faults("one buffer", 2, 1, e, {"may still read", "races", "more bytes", "lapped", "deadlock"});
  e = {};
  e.parity_off = 1;
  Faults("parity off by one", 2, 1, e, {"waited for before", "lapped", "races", "may still"});
  e = {};
  e.expects_bytes = false;
  Faults("a barrier is not armed again", 2, 1, e, {"deadlock"});
  e = {};
  e.to = 2;
  Runs("a CTA sends to itself", 2, 1, e);
  Faults("an arrival too many", 1, 1,
         [](Machine& m) {
           m.InitBarrier(0, 1);
           m.ArmBarrier(0, 4);
           m.Arrive(0);
         },
         {"more arrivals"});
  Faults("a barrier made twice", 1, 1,
         [](Machine& m) {
           m.InitBarrier(0, 1);
           m.InitBarrier(0, 1);
         },
         {"made twice"});
  Faults("a barrier that nobody made", 1, 1, [](Machine& m) { m.Arrive(0); }, {"before it exists"});
  Faults("data over a barrier", 1, 1,
         [](Machine& m) {
           m.InitBarrier(0, 1);
           m.StoreSharedPairIf(B(true), kLane * 8, F(1), F(2));
         },
         {"as data"});
  Faults("a warp waits for nobody", 1, 2,
         [](Machine& m) {
           if (m.Warp() == 0) m.SyncCta();
         },
         {"deadlock"});
  // a store before or after the first lane's arrival at a barrier, with and without a SyncWarp
  for (bool synced : {true, false}) {
    for (bool stores_first : {true, false}) {
      const Body body = [=](Machine& m) {
        if (m.Warp() == 0) m.InitBarrier(0, 1);
        m.SyncCta();
        if (m.Warp() == 0) {
          if (stores_first) Write(m);
          if (synced) m.SyncWarp();
          m.Arrive(0);
          if (!stores_first) Write(m);
        } else {
          m.WaitBarrier(0, 0);
          Read(m);
        }
      };
      if (synced && stores_first) {
        Runs("a store released by an arrival", 1, 2, body);
      } else {
        Faults("a store that no arrival releases", 1, 2, body,
               {"a read races with a write", "before it was written", "may still read"});
      }
    }
  }
  // a message does not release a plain store; only an arrival in the store's own CTA would
  Faults("a store that only a message follows", 2, 2,
         [](Machine& m) {
           if (m.Warp() == 0) {
             m.InitBarrier(0, 1);
             m.FenceBarrierInit();
             m.ArmBarrier(0, 128);
           }
           m.SyncCluster();
           if (m.Rank() == 0 && m.Warp() == 0) {
             Write(m, kOwn + 512);
             m.SyncWarp();
             m.SendWord(kLane * 4 + kData, kLane, 1, 0);
           }
           if (m.Rank() == 1 && m.Warp() == 0) {
             m.WaitBarrier(0, 0);
             m.SendWord(kLane * 4 + kData, kLane, 0, 0);
           }
           if (m.Rank() == 0 && m.Warp() == 1) {
             m.WaitBarrier(0, 0);
             Read(m, kOwn + 512);
           }
         },
         {"a read races with a write"});
  // a warp that takes no part in an exchange may come too late for a phase
  for (int n_phases : {1, 2}) {
    const Body body = [=](Machine& m) {
      if (m.Warp() == 0) m.InitBarrier(0, 1);
      m.SyncCta();
      for (uint32_t i = 0; m.Warp() == 0 && i < static_cast<uint32_t>(n_phases); ++i) {
        m.Arrive(0);
        m.WaitBarrier(0, i & 1);
      }
      m.SyncCta();
      if (m.Warp() == 1) m.WaitBarrier(0, 0);
    };
    if (n_phases == 1) {
      Runs("a phase is waited for late", 1, 2, body);
    } else {
      Faults("a phase is lapped", 1, 2, body, {"lapped before"});
    }
  }
}

void Globals() {
  // one warp of each CTA stores, and the last CTA reads all
  auto Last = [](bool syncs, bool is_fresh) {
    return [=](Machine& m) {
      const L at = L(kLane);
      if (m.Warp() == 1) m.StoreGlobalIf(B(true), g_memory + 32 * m.Rank(), at, F(1));
      if (syncs) m.SyncCta();
      if (!m.IsLastOfCtas(g_arrived, 0, 2, 1024)) return;
      for (int rank : {0, 1}) {
        const float* from = g_memory + 32 * rank;
        is_fresh ? m.LoadFreshIf(B(true), from, at) : m.LoadGlobalIf(B(true), from, at);
      }
    };
  };
  Runs("the last CTA reads the writes of all", 2, 2, Last(true, true));
  Faults("the last CTA reads from a stale cache", 2, 2, Last(true, false), {"may be stale"});
  // a read of global memory is not recorded, so a race with a later write is not detected
  const Body early = Last(false, true);
  int n_seen = 0;
  for (uint32_t seed = 1; seed <= kSeeds; ++seed) {
    n_seen += FaultOf(2, 2, seed, early).find("a read of global memory races") == 0;
  }
  Check(n_seen > kSeeds / 2, "a CTA arrives before its warps have stored");
  // with the kind of wait that the kernels use, an mbarrier orders only shared memory
  Faults("global memory ordered by an mbarrier", 1, 2,
         [](Machine& m) {
           if (m.Warp() == 0) m.InitBarrier(0, 1);
           m.SyncCta();
           if (m.Warp() == 0) {
             m.StoreGlobalIf(B(true), g_memory, L(kLane), F(1));
             m.SyncWarp();
             m.Arrive(0);
           } else {
             m.WaitBarrier(0, 0);
             m.LoadGlobalIf(B(true), g_memory, L(kLane));
           }
         },
         {"a read of global memory races"});
}

}  // namespace

int main() {
  Warps();
  Copies();
  Messages();
  Globals();
  Check(Truncated(1 + std::ldexp(1.9, -23)) == 1 + std::ldexp(1.0f, -23), "truncated upwards");
  Check(Truncated(-1 - std::ldexp(1.9, -23)) == -1 - std::ldexp(1.0f, -23), "and downwards");
  std::printf("%d programs, %d schedules each\n", g_programs, kSeeds);
  return harness::Finish();
}
