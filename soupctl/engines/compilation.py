"""Compiling a kernel to the object code of one C function.

Rule 1: the function depends neither on Python nor on the compiler: any program that loads object
code can call it.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import numba
from llvmlite import ir
from numba.core.compiler_lock import global_compiler_lock
from numba.core.typing import Signature

Kernel = Callable[..., object]


def compiled_kernel(name: str, kinds: tuple[str, ...], symbol: str) -> bytes:
    """The object code of a kernel, as the C function `symbol`; see `native_address`."""
    module, function = name.split(".")
    kernels = import_module(f"..kernels.{module}", __package__)
    return object_code(getattr(kernels, function), kernels.SIGNATURES[function](*kinds), symbol)


@global_compiler_lock
def object_code(kernel: Kernel, signature: Signature, symbol: str) -> bytes:
    """The object code of `kernel` for `signature`, as the C function `symbol`."""
    # numpy's error model: a division raises no exception, so its loop can be vectorised
    function = numba.njit(signature, error_model="numpy")(kernel)
    (compiled,) = function.overloads.values()
    context, calls = compiled.target_context, compiled.target_context.call_conv
    result, arguments = signature.return_type, signature.args
    library = context.codegen().create_library(symbol)
    library.enable_object_caching()
    module = library.create_ir_module(symbol)
    parameters = [context.get_value_type(kind) for kind in arguments]
    wrapper = ir.Function(
        module, ir.FunctionType(context.get_value_type(result), parameters), symbol
    )
    inner = ir.Function(
        module, calls.get_function_type(result, arguments), compiled.fndesc.llvm_func_name
    )
    builder = ir.IRBuilder(wrapper.append_basic_block())
    # the status reports exceptions, which kernels do not raise
    _status, value = calls.call_function(builder, inner, result, arguments, wrapper.args)
    builder.ret(value)
    library.add_ir_module(module)
    library.add_linking_library(compiled.library)
    library.finalize()
    _name, _kind, (code, _bitcode) = library.serialize_using_object_code()
    return bytes(code)
