"""How a kernel is compiled that only other kernels call: to code that is linked, not to code that runs.

numba optimises every function it compiles and makes machine code of it, and then does both again for each kernel into
which that function is linked. Kernels that Python calls bring all they call along, so the first of the two is for
nothing. Here it is left out; what the kernels compute, and mostly how fast, is decided where they are linked. A few
gain by being optimised before: measured, not guessed.
"""

from __future__ import annotations

import functools
from typing import Any

__all__ = ["linked_compiler"]


@functools.cache
def linked_compiler(optimized: bool) -> Any:
    """The ``pipeline_class`` of numba for kernels that only kernels call; optimised before they are linked, or not."""
    from numba.core.codegen import JITCodeLibrary, JITCPUCodegen
    from numba.core.compiler import Compiler

    class Library(JITCodeLibrary):  # type: ignore[misc]  # numba is not typed
        """Code that is to be linked."""

        def _optimize_final_module(self) -> None:
            if optimized:
                super()._optimize_final_module()

        def _finalize_specific(self) -> None:
            pass

        def get_pointer_to_function(self, name: str) -> int:
            return 0

    class Codegen(JITCPUCodegen):  # type: ignore[misc]
        """Makes such code, for the same processor as any other."""

        _library_class = Library

        def _add_module(self, module: Any) -> None:
            pass

        def set_env(self, env_name: str, env: Any) -> None:
            pass

    codegen = functools.cache(lambda: Codegen("larun"))

    class LinkedCompiler(Compiler):  # type: ignore[misc]
        """The compiler of numba, with a library of ours for what comes out."""

        def define_pipelines(self) -> Any:
            self.state.library = codegen().create_library(self.state.func_id.func_qualname)
            return super().define_pipelines()

    return LinkedCompiler
