"""Fitted models for programs without Python: ONNX."""
