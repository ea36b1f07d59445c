"""Export models for other programs, as ONNX or C."""
