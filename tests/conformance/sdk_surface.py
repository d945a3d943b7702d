"""The public surface of the SDK, found by introspection: a name that a release adds is here by itself.

Typed by hand is the list of modules, and nothing else. A member is named after the class that introduces it:

- ``Class.method`` and ``Class.attribute`` (a property, a field, or what a method assigns to ``self``);
- ``Class.method(parameter=)`` for each parameter that may be left out, ``Class(parameter=)`` for those of a
  constructor; where it sets a public attribute of that name, the attribute stands for both;
- ``Class.__enter__`` and ``Class.__aenter__``: the class is used in a ``with``;
- ``Enum.MEMBER`` and ``module.function``;
- ``Class`` alone for an exception, and for a class with nothing of its own.

Constants, type variables and type aliases are left out.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from functools import cache
from importlib import import_module
from types import FunctionType, MemberDescriptorType
from typing import Any

MODULES = (
    "durabletask.task",
    "durabletask.client",
    "durabletask.worker",
    "durabletask.entities",
    "durabletask.scheduled",
    "durabletask.history",
    "durabletask.serialization",
    "durabletask",  # what it exports is defined elsewhere, and some of it listed already
)


def public_objects(modules: tuple[str, ...] = MODULES) -> dict[str, dict[str, Any]]:
    """The classes and functions that the modules define or export under a public name, by module."""
    found: dict[str, dict[str, Any]] = {}
    known: dict[str, Any] = {}
    for name in modules:
        module = import_module(name)
        exported = getattr(module, "__all__", ())
        for public in dict.fromkeys([*exported, *vars(module)]):
            value = getattr(module, public)
            here = public in exported or getattr(value, "__module__", None) == name
            if public.startswith("_") or not here or not isinstance(value, (type, FunctionType)):
                continue
            key = value.__name__ if isinstance(value, type) else f"{name.rpartition('.')[2]}.{public}"
            if key not in known:
                found.setdefault(name, {})[key] = known[key] = value
            elif known[key] is not value:
                raise AssertionError(f"{key} names two things: sdk_surface.py has to tell them apart.")
    return found


def members(objects: dict[str, Any]) -> list[str]:
    """The members of some classes and functions, in their order."""
    found: list[str] = []
    for key, value in objects.items():
        found += _members_of(value) if isinstance(value, type) else [key]
    return list(dict.fromkeys(found))


def _members_of(cls: type) -> list[str]:
    found = [f"{cls.__name__}.{name}" for name in getattr(cls, "__members__", ())]
    for name in own_names(cls):
        key = key_of(cls, name)
        if not key.startswith(f"{cls.__name__}."):
            continue  # an override: listed with the class that introduced it
        found.append(key)
        held = inspect.getattr_static(cls, name, None)
        if not isinstance(held, property) and (function := function_of(held)) is not None:
            found += [f"{key}({parameter}=)" for parameter in _optional(function)]
    if issubclass(cls, BaseException):
        return [cls.__name__, *found]
    if "__init__" in vars(cls):
        keys = [constructor_key(cls, parameter) for parameter in _optional(vars(cls)["__init__"])]
        found += [key for key in keys if key.startswith((f"{cls.__name__}.", f"{cls.__name__}("))]
    return found or [cls.__name__]


@cache
def own_names(cls: type) -> tuple[str, ...]:
    """The public methods, properties, fields and attributes of ``self`` that a class itself defines."""
    names = [
        name
        for name, value in vars(cls).items()
        if isinstance(value, (FunctionType, property, staticmethod, classmethod, MemberDescriptorType))
    ]
    if dataclasses.is_dataclass(cls):
        inherited = {name for base in cls.__mro__[1:] for name in getattr(base, "__dataclass_fields__", ())}
        names += [field.name for field in dataclasses.fields(cls) if field.name not in inherited]
    if cls.__module__ != "builtins":
        names += _attributes_of_self(cls)
    return tuple(
        name
        for name in dict.fromkeys(names)
        if not name.startswith("_") or name in ("__enter__", "__aenter__")
    )


def _attributes_of_self(cls: type) -> list[str]:
    try:
        source = inspect.getsource(cls)
    except (OSError, TypeError):  # made without a source file
        return []
    return [
        node.attr
        for node in ast.walk(ast.parse(textwrap.dedent(source)))
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    ]


def function_of(held: Any) -> FunctionType | None:
    """The function behind a method, a property, a static method or a class method."""
    if isinstance(held, property):
        held = held.fget
    elif isinstance(held, (staticmethod, classmethod)):
        held = held.__func__
    return held if isinstance(held, FunctionType) else None


def _optional(function: Any) -> list[str]:
    return [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is not inspect.Parameter.empty and not name.startswith("_")
    ]


def key_of(cls: type, name: str) -> str:
    """The name of a member, under the class that introduced it."""
    introduced = cls
    for base in cls.__mro__:
        if base.__module__.startswith("durabletask") and name in own_names(base):
            introduced = base
    return f"{introduced.__name__}.{name}"


def constructor_key(cls: type, parameter: str) -> str:
    """The name of a parameter of a constructor: that of the attribute it sets, if there is one."""
    if any(parameter in own_names(base) for base in cls.__mro__):
        return key_of(cls, parameter)
    return f"{cls.__name__}({parameter}=)"
