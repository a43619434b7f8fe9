"""Public names that are loaded at their first use, so that the import of a package is cheap."""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def names_elsewhere(
    module: str, package: str, home_of: Mapping[str, str]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return a module's ``__getattr__`` and ``__dir__`` (PEP 562).

    Args:
        module: The module's name.
        package: The package to which the modules in ``home_of`` are relative.
        home_of: The module that defines each name, such as ``.worker``.
    """

    def load(name: str) -> object:
        if name not in home_of:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return getattr(import_module(home_of[name], package), name)

    def names() -> list[str]:
        return sorted({*vars(import_module(module)), *home_of})

    return load, names
