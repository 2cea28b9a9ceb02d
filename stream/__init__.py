"""Serving: Kafka events in, scores out. Imports neither torch nor onnx."""
