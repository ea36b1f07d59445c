// Lists every instruction set, best first, one per line.
//
// Included twice by a file that makes a table, after isa/target.h. The first time, SENSORSEQ_BODIES
// names a file, and Row is a type with `name` and `is_supported`. Each line then includes that file
// in its own namespace and target region, where the file defines kRow. The second time,
// SENSORSEQ_TABLE is defined, and each line expands to &kRow. An instruction set of another
// processor architecture also has a row, but is never supported.
// clang-format off: the order matters for the table
#include "isa/avx512-inl.h"
#include "isa/avx2-inl.h"
#include "isa/neon-inl.h"
#include "isa/baseline-inl.h"
// clang-format on
