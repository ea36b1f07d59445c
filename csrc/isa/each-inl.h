// Every instruction set, best first, one line each.
//
// Included twice by a file that makes a table, after isa/target.h. With SENSORSEQ_BODIES naming a
// file and Row a type with `name` and `is_supported`, each line includes the bodies in its own
// namespace and target region, where they define kRow. With SENSORSEQ_TABLE, each line is then
// &kRow. An instruction set of another kind of processor is also a row, which is never supported.
// clang-format off: the order matters for the table
#include "isa/avx512-inl.h"
#include "isa/avx2-inl.h"
#include "isa/neon-inl.h"
#include "isa/baseline-inl.h"
// clang-format on
