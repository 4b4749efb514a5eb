"""The value forms of a program in ONNX: qdq, qoperator and a float graph with encodings."""
