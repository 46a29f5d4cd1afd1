"""Methods from outside the package, by the ``method`` key of a model's row.

``my_package.module:NAME``, ``path/to/file.py:NAME`` (relative to the working directory), or the name of an
entry point of the group ``celllm.methods``; each is a :class:`celllm.methods.method.Method`.
"""

import ast
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from celllm.errors import UserError
from celllm.settings import Settings, unknown

if TYPE_CHECKING:
    from celllm.methods.method import Method

GROUP = "celllm.methods"


def file_of(name: str) -> str | None:
    """The Python file that a method is in, where the row names one."""
    place = name.rpartition(":")[0] or name
    return place if place.endswith(".py") else None


def load(name: str, known: Iterable[str] = ()) -> "Method[Any, Any]":
    """Import a method; ``known`` are the package's own, for the message.

    Raises :class:`UserError` when there is none of that name, it cannot be imported, or it is no
    :class:`Method`.
    """
    from celllm.methods.method import Method

    if _is_place(name):
        place, _, attribute = name.rpartition(":")
        module = _imported(place, lambda: _module(place))
        if not hasattr(module, attribute):
            there = ", ".join(key for key in vars(module) if key.isupper()) or "none in capitals"
            raise UserError(f"{place}: defines no '{attribute}'; there are {there}")
        found = getattr(module, attribute)
    else:
        points = {point.name: point for point in entry_points(group=GROUP)}
        if name not in points:
            raise UserError(f"{unknown(name, [*known, *points], 'method')}, MODULE:NAME and FILE.py:NAME")
        found = _imported(points[name].value, points[name].load)
    if not isinstance(found, Method):
        raise UserError(f"{name}: is a {type(found).__name__}; expected a celllm.methods.method.Method")
    if not (isinstance(found.settings, type) and issubclass(found.settings, Settings)):
        raise UserError(f"{name}: settings: expected a subclass of celllm.settings.Settings")
    return found


def check_elsewhere(name: str) -> None:
    """Check what can be seen of a method that runs in an environment of its own: the text of its file.

    Raises :class:`UserError` for a file that is missing, is no Python or does not define the name.
    """
    path, (_, _, attribute) = file_of(name), name.rpartition(":")
    if path is None or not _is_place(name):
        return
    tree = _imported(path, lambda: ast.parse(_existing(path).read_bytes(), path))
    defined = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    defined |= {alias.asname or alias.name for node in tree.body for alias in getattr(node, "names", [])}
    if attribute not in defined:
        raise UserError(f"{path}: defines no '{attribute}'")


def _is_place(name: str) -> bool:
    place, _, attribute = name.rpartition(":")
    if name.endswith(".py"):
        raise UserError(f"{name}: expected the method's name behind the file, as in {name}:METHOD")
    if place and not attribute.isidentifier():
        raise UserError(f"{name}: expected MODULE:NAME or FILE.py:NAME")
    return bool(place)


def _module(name: str) -> ModuleType:
    if not name.endswith(".py"):
        # Like `python -m`, which the jobs run as: a package in the working directory can be imported.
        if os.getcwd() not in sys.path and "" not in sys.path:
            sys.path.append(os.getcwd())
        return importlib.import_module(name)
    # A file, under a name that no other module has; once, as any module.
    place = _existing(name).resolve()
    name = f"celllm_method_{place.stem}_{abs(hash(str(place))):x}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, place)
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(sys.modules[name])
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def _existing(path: str) -> Path:
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file (looked for in {os.getcwd()})")
    return Path(path)


def _imported(place: str, load: Any) -> Any:
    """Run an import; whatever a stranger's module raises there is one line."""
    try:
        return load()
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{place}: cannot be imported ({type(error).__name__}: {error})") from error
