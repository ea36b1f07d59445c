// Undefines the macros of an instruction set's file, which includes this file last.
#undef SENSORSEQ_ISA_NAME
#undef SENSORSEQ_VECTOR_BYTES
#undef SENSORSEQ_REGISTER_ROWS
#undef SENSORSEQ_RUN_ENTRIES
