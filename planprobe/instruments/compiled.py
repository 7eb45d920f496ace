"""Refuse compiled modules.

A compiled module runs code that was generated before an instrument came by. By default torch does not look again for
hooks, so a capture would record nothing and a patch would change nothing, without a word. A canary among the law tests
watches that this is still so.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import nn

from planprobe.core.errors import CompiledPolicyError


def refuse_compiled(policy: object) -> None:
    """Raises: CompiledPolicyError (`policy`, a module in it, or one of their methods is compiled or scripted)."""
    for name, module in policy.named_modules() if isinstance(policy, nn.Module) else [("", policy)]:
        if _is_compiled(module):
            raise CompiledPolicyError(
                f"{f'module {name!r} of the policy' if name else 'the policy'} is compiled, and hooks added after "
                "torch.compile are silently ignored: captures would be stale and edits do nothing.\n"
                "  Open the net as it was before torch.compile (`compiled._orig_mod`), or load the agent again."
            )


def _is_compiled(module: object) -> bool:
    return (
        _has_compiled_code(type(module))
        or _is_compiled_function(module)
        or getattr(module, "_compiled_call_impl", None) is not None  # module.compile()
        or any(_is_compiled_function(value) for value in getattr(module, "__dict__", {}).values())
    )


@lru_cache(maxsize=1024)
def _has_compiled_code(cls: type) -> bool:
    """Of a class: a wrapper that torch.compile or torch.jit makes, or one with a decorated method."""
    if cls.__name__ == "OptimizedModule" or issubclass(cls, torch.jit.ScriptModule):
        return True
    own = [base for base in cls.__mro__ if base is not nn.Module]
    return any(_is_compiled_function(value) for base in own for value in vars(base).values())


def _is_compiled_function(value: object) -> bool:
    return callable(value) and not isinstance(value, nn.Module) and hasattr(value, "_torchdynamo_orig_callable")
