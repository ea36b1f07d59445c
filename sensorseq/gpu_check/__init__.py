"""Check on the user's own GPU that the CUDA kernels compute what they should.

A worker process runs every kernel, because a kernel that hangs can only be stopped with its
process; this process compares the worker's results with float64. Only torch and numpy are needed.
"""

from sensorseq.gpu_check.cases import Case, make_cases
from sensorseq.gpu_check.check import check_before_fit, check_gpu, format_result
from sensorseq.gpu_check.supervise import Result, check_kernels

__all__ = [
    "Case",
    "Result",
    "check_before_fit",
    "check_gpu",
    "check_kernels",
    "format_result",
    "make_cases",
]
