// Every instruction set, best first: a line for each.
//
// Included twice by a file that makes a table, after isa/target.h. With SENSORSEQ_BODIES naming a
// file and Row a type with `name` and `is_supported`, each line includes the bodies in a namespace
// and target region of its own, where they define kRow. Then with SENSORSEQ_TABLE, each gives
// &kRow. An instruction set of another kind of processor is a row, too, which is never supported.
// clang-format off: the order is that of the table
#include "isa/avx512-inl.h"
#include "isa/avx2-inl.h"
#include "isa/neon-inl.h"
#include "isa/baseline-inl.h"
// clang-format on
