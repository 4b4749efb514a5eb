"""Writes the API pages to build/api: `make docs`."""

import importlib
import warnings
from pathlib import Path

PACKAGES = (  # whose docstrings tests/test_docstrings.py reads
    "quantkeras",
    "quantkeras.report",
    "quantkeras.calibration",
    "quantkeras.conversion",
    "quantkeras.onnx",
    "quantkeras.layers",
    "quantkeras.numerics",
    "quantkeras.onnx.runtime_quantizer",
    "quantkeras.ptq",
    "quantkeras.qat",
    "quantkeras.qmodel",
    "quantkeras.runtime",
    "sanitize",
    "sanitize.onnx_io",
)

TARGET = Path("build/api")


def main() -> None:
    import pdoc

    modules_of_names = []
    for package in PACKAGES:
        module = importlib.import_module(package)
        # Many names are fetched when they are first asked for; pdoc looks for those at hand.
        vars(module).update({name: getattr(module, name) for name in module.__all__})
        # Where a module is called like the function in it, the function is meant.
        modules_of_names += [f"!{package}.{name}" for name in module.__all__]
    warnings.simplefilter("error", UserWarning)
    # The __init__ of a dataclass has types as text, of the modules of its bases as well.
    warnings.filterwarnings("ignore", "Error parsing type annotation")
    pdoc.render.configure(docformat="google", search=True)
    pdoc.pdoc(*PACKAGES, *modules_of_names, output_directory=TARGET)
    print(f"{TARGET}/index.html")


if __name__ == "__main__":
    main()
