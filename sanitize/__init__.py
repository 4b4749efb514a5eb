"""Rewrites float networks into a form that integer hardware can run.

``read_keras`` turns a model into a :class:`Graph`, rules rewrite the graph, ``write_keras`` makes a
model of it again; ``sanitize`` does all three. Names are loaded when they are first used, so that
``import sanitize`` pulls in neither Keras nor ONNX.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Graph": "graph",
    "GraphError": "graph",
    "Node": "graph",
    "differences": "compare",
    "evaluate": "semantics",
    "UserFunction": "user_functions",
    "register_function": "user_functions",
    "unregister_function": "user_functions",
    "read_keras": "keras_io",
    "write_keras": "keras_io",
    "read_onnx": "onnx_io",
    "import_onnx": "onnx_io",
    "write_onnx": "onnx_io",
    "custom_pattern_scope": "onnx_io",
    "PATTERNS": "onnx_io",
    "Log": "log",
    "LogEntry": "log",
    "Rule": "match",
    "TARGETS": "target",
    "Target": "target",
    "rules_table": "pipeline",
    "sanitize": "pipeline",
    "sanitize_graph": "pipeline",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sanitize' has no attribute '{name}'")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
