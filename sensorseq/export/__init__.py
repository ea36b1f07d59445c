"""Models written for other programs: ONNX, C."""
