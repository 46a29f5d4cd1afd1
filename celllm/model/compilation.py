"""torch.compile for the layers of an encoder, where it is wanted."""

import functools
from collections.abc import Callable
from typing import Any, ClassVar, Generic, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


class Opaque(Generic[P, R]):
    """A function that compiled code calls as it is, like one under ``torch.compiler.disable``.

    That import takes seconds, so the functions are marked when the first encoder is compiled, not before.
    """

    all: ClassVar[list["Opaque[..., Any]"]] = []

    def __init__(self, function: Callable[P, R]) -> None:
        functools.update_wrapper(self, function)
        self.function, self.marked = function, False
        self.all.append(self)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function."""
        return self.function(*args, **kwargs)

    def mark(self) -> None:
        """Keep the compiler out from now on."""
        if not self.marked:
            self.function, self.marked = torch.compiler.disable(self.function), True


def compile_layers(layers: torch.nn.Module) -> None:
    """Compile each layer in place: parameters, their names and all random numbers stay as they are.

    Compiled is what stands around FAVOR+ (whose blocks fit no compiler) and, on a CPU, around dropout. The
    first passes take a minute or so; lengths of the cells do not make for another compilation. Results are
    those of the plain layers up to rounding.
    """
    for function in Opaque.all:
        function.mark()
    for layer in layers.children():
        # Random numbers of torch's own generators: else the second pass over a chunk has other dropout masks.
        layer.compile(dynamic=True, options={"fallback_random": True})
