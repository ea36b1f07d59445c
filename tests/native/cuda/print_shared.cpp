// Prints the layout of each recurrent kernel as JSON: CTAs per cluster, threads per CTA, fragments
// of weights in registers and in shared memory, and bytes of shared memory.
#include <cstdio>

#include "cuda/backward.cuh"
#include "cuda/forward.cuh"

using namespace sensorseq::cuda;

namespace {

template <typename V>
void Print(const char* name, uint32_t bytes) {
  std::printf(
      "  \"%s<%d, %d>%s\": {\"ctas\": %d, \"threads\": %d, \"in_registers\": %d, "
      "\"in_shared\": %d, \"bytes\": %u}",
      name[0] == 'f' ? "forward" : "backward", V::kPlanes, V::kHidden,
      name[0] == 'f' ? name + 7 : "", V::kCtas, V::kThreads, V::kInRegisters, V::kInShared, bytes);
}

template <int kPlanes, int kHidden>
void PrintBoth(bool is_last) {
  using F = ForwardVariant<kPlanes, kHidden>;
  using B = BackwardVariant<kPlanes, kHidden>;
  Print<F>("forward C=1", ForwardShared<F>(1, false).total);
  std::printf(",\n");
  Print<F>("forward C=7", ForwardShared<F>(7, false).total);
  std::printf(",\n");
  Print<F>("forward C=16", ForwardShared<F>(16, false).total);
  std::printf(",\n");
  Print<F>("forward projected", ForwardShared<F>(0, true).total);
  std::printf(",\n");
  Print<B>("backward", BackwardShared<B>().total);
  std::printf(is_last ? "\n" : ",\n");
}

}  // namespace

int main() {
  std::printf("{\n");
  PrintBoth<1, 64>(false);
  PrintBoth<1, 128>(false);
  PrintBoth<1, 256>(false);
  PrintBoth<2, 64>(false);
  PrintBoth<2, 128>(false);
  PrintBoth<2, 256>(true);
  std::printf("}\n");
}
