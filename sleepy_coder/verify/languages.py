"""By which suffixes the files of a language are known. Pure."""

from __future__ import annotations

from typing import Final

JS: Final = frozenset({".js", ".cjs", ".mjs", ".jsx", ".ts", ".cts", ".mts", ".tsx"})
C: Final = frozenset({".c", ".cc", ".cpp", ".cxx", ".h", ".hh", ".hpp", ".hxx"})
OBJECTIVE_C: Final = frozenset({".m", ".mm"})
JVM: Final = frozenset({".java", ".kt", ".scala", ".groovy"})
PYTHON: Final = frozenset({".py", ".pyi", ".pyx"})
