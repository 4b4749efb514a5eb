"""The integer form of a program in ONNX: equal to it in every number."""
