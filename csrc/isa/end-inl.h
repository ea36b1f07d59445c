// Takes back what an instruction set's file defined. Included by it last.
#undef SENSORSEQ_ISA_NAME
#undef SENSORSEQ_VECTOR_BYTES
#undef SENSORSEQ_REGISTER_ROWS
#undef SENSORSEQ_RUN_ENTRIES
