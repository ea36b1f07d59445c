// Every instruction set, best first, one line each.
//
// Included twice by a file that makes a table, after isa/target.h. The first time, SENSORSEQ_BODIES
// names a file, and Row is a type with `name` and `is_supported`: each line includes the bodies in
// its own namespace and target region, where they define kRow. The second time, SENSORSEQ_TABLE is
// defined, and each line is &kRow. An instruction set for a different processor also has a row,
// which is never supported.
// clang-format off: the order matters for the table
#include "isa/avx512-inl.h"
#include "isa/avx2-inl.h"
#include "isa/neon-inl.h"
#include "isa/baseline-inl.h"
// clang-format on
