"""The modules of a project, and what its names mean, without importing any of it."""

from __future__ import annotations

import ast
import os
import sys
import tokenize
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AnyFunction: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_OTHER_SCOPES = frozenset({ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef})
_LEAVES = frozenset({ast.Load, ast.Constant})
OUTSIDE = frozenset(sys.stdlib_module_names) | {"durabletask", "dt_testkit"}
"""Packages that are known, and of no project."""
MUTATORS = frozenset(
    [
        "append",
        "extend",
        "insert",
        "remove",
        "pop",
        "popleft",
        "appendleft",
        "clear",
        "sort",
        "reverse",
        "add",
        "discard",
        "update",
        "setdefault",
        "popitem",
        "intersection_update",
        "difference_update",
        "symmetric_difference_update",
        "subtract",
        "rotate",
    ]
)


@dataclass(frozen=True)
class Imported:
    """A name bound by an import."""

    module: str
    level: int
    attribute: str | None


@dataclass(frozen=True)
class Assigned:
    """A name bound to what an expression gives: itself, an element of it, or what `with` makes of it."""

    value: ast.expr
    how: str = "value"
    position: int | None = None


@dataclass(frozen=True)
class Parameter:
    """A parameter of a function."""

    argument: ast.arg


class FunctionInfo:
    """A function, method or lambda of the project."""

    def __init__(self, node: AnyFunction, outer: Scope, owner: ClassInfo | None) -> None:
        self.node = node
        self.outer = outer
        self.owner = owner
        self.module = outer.module
        self.name = "<lambda>" if isinstance(node, ast.Lambda) else node.name

    @cached_property
    def scope(self) -> Scope:
        scope = Scope(self.module, self.outer if not self.outer.is_class else self.outer.parent, self.node)
        for argument in self.parameters:
            scope.bindings[argument.arg] = [Parameter(argument)]
        if not isinstance(self.node, ast.Lambda):
            scope.collect(self.node.body)
        return scope

    @cached_property
    def parameters(self) -> list[ast.arg]:
        a = self.node.args
        return [
            *a.posonlyargs,
            *a.args,
            *([a.vararg] if a.vararg else []),
            *a.kwonlyargs,
            *filter(None, [a.kwarg]),
        ]

    @cached_property
    def defaults(self) -> dict[str, ast.expr]:
        """The default of each parameter that has one."""
        a = self.node.args
        positional = [*a.posonlyargs, *a.args]
        found = zip(positional[len(positional) - len(a.defaults) :], a.defaults, strict=True)
        only = zip(a.kwonlyargs, a.kw_defaults, strict=True)
        return {arg.arg: default for arg, default in [*found, *only] if default is not None}

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """The nodes of the body, without those of the functions in it."""
        return list(own_nodes(self.node))

    @cached_property
    def is_generator(self) -> bool:
        return any(isinstance(node, ast.Yield | ast.YieldFrom) for node in self.nodes)

    @cached_property
    def is_stub(self) -> bool:
        """Whether it only stands for what subclasses do: a docstring, `...`, or NotImplementedError."""
        body = self.node.body
        return isinstance(body, list) and all(
            (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
            or (isinstance(part, ast.Raise) and part.exc is not None and _raises_not_implemented(part.exc))
            for part in body
        )

    @cached_property
    def kept_on_self(self) -> dict[str, str]:
        """The attributes that simply keep a parameter, and which: ``self.clock = clock``."""
        kept = {}
        names = {argument.arg for argument in self.parameters}
        for node in self.nodes:
            if not isinstance(node, ast.Assign | ast.AnnAssign):
                continue
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Attribute) and last_name(target.value) == "self":
                    value = node.value.values[0] if isinstance(node.value, ast.BoolOp) else node.value
                    if isinstance(value, ast.Name) and value.id in names:
                        kept[target.attr] = value.id
        return kept

    @cached_property
    def decorators(self) -> list[ast.expr]:
        return [] if isinstance(self.node, ast.Lambda) else self.node.decorator_list

    def is_decorated(self, *names: str) -> bool:
        return any(last_name(d.func if isinstance(d, ast.Call) else d) in names for d in self.decorators)


class ClassInfo:
    """A class of the project."""

    def __init__(self, node: ast.ClassDef, outer: Scope) -> None:
        self.node = node
        self.outer = outer
        self.module = outer.module
        self.name = node.name

    @cached_property
    def scope(self) -> Scope:
        scope = Scope(self.module, self.outer, self.node)
        scope.collect(self.node.body)
        return scope

    @cached_property
    def fields(self) -> dict[str, ast.expr | None]:
        """The annotated names of the body, as dataclasses have them, and their defaults."""
        return {
            part.target.id: part.value
            for part in self.node.body
            if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)
        }

    @cached_property
    def is_dataclass(self) -> bool:
        return any(
            last_name(d.func if isinstance(d, ast.Call) else d)
            in ("dataclass", "define", "frozen", "attrs", "s")
            for d in self.node.decorator_list
        )

    @cached_property
    def assigned_on_self(self) -> set[str]:
        return {
            node.attr
            for node in ast.walk(self.node)
            if isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and isinstance(node.value, ast.Name)
            and node.value.id == "self"
        }


Binding: TypeAlias = Imported | Assigned | Parameter | FunctionInfo | ClassInfo


class Scope:
    """The names of a module, a class or a function, and what binds them."""

    def __init__(self, module: Module, parent: Scope | None, node: ast.AST) -> None:
        self.module = module
        self.parent = parent
        self.node = node
        self.bindings: dict[str, list[Binding]] = {}
        self.stars: list[Imported] = []
        self.declared_global: set[str] = set()
        self.declared_nonlocal: set[str] = set()

    @property
    def is_class(self) -> bool:
        return isinstance(self.node, ast.ClassDef)

    def bind(self, name: str, binding: Binding) -> None:
        self.bindings.setdefault(name, []).append(binding)

    def owns(self, name: str) -> bool:
        return name in self.bindings and name not in self.declared_global | self.declared_nonlocal

    def collect(self, body: list[ast.stmt]) -> None:
        """Note what the statements bind, without entering functions and classes."""
        stack: list[ast.AST] = list(reversed(body))
        while stack:
            node = stack.pop()
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                self.bind(node.name, self.module.function(node, self))
                continue
            if isinstance(node, ast.ClassDef):
                self.bind(node.name, self.module.class_(node, self))
                continue
            if isinstance(node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
                continue
            if isinstance(node, ast.Import):
                for alias in node.names:
                    name = alias.asname or alias.name.partition(".")[0]
                    self.bind(name, Imported(alias.name if alias.asname else name, 0, None))
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    imported = Imported(node.module or "", node.level, alias.name)
                    if alias.name == "*":
                        self.stars.append(imported)
                    else:
                        self.bind(alias.asname or alias.name, imported)
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    self._assign(target, node.value, "value")
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                if node.value is not None:
                    self.bind(node.target.id, Assigned(node.value))
                elif not self.is_class:
                    self.bind(node.target.id, Assigned(node.annotation, "annotation"))
            elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
                self.bind(node.target.id, Assigned(node.value, "augmented"))
            elif type(node).__name__ == "TypeAlias":  # from Python 3.12 on
                self._assign(node.name, node.value, "value")  # type: ignore[attr-defined]
            elif isinstance(node, ast.NamedExpr):
                self._assign(node.target, node.value, "value")
            elif isinstance(node, ast.For | ast.AsyncFor):
                self._assign(node.target, node.iter, "element")
            elif isinstance(node, ast.With | ast.AsyncWith):
                for item in node.items:
                    if item.optional_vars is not None:
                        self._assign(item.optional_vars, item.context_expr, "with")
            elif isinstance(node, ast.ExceptHandler) and node.name:
                self.bind(node.name, Assigned(ast.Constant(...), "other"))
            elif isinstance(node, ast.Global):
                self.declared_global.update(node.names)
            elif isinstance(node, ast.Nonlocal):
                self.declared_nonlocal.update(node.names)
            parts = list(ast.iter_child_nodes(node)) if self.module.has_walrus else statements_in(node)
            stack.extend(reversed(parts))

    def _assign(self, target: ast.expr, value: ast.expr, how: str) -> None:
        if isinstance(target, ast.Name):
            self.bind(target.id, Assigned(value, how))
        elif isinstance(target, ast.Tuple | ast.List):
            for position, part in enumerate(target.elts):
                if (
                    isinstance(value, ast.Tuple | ast.List)
                    and how == "value"
                    and len(value.elts) == len(target.elts)
                ):
                    self._assign(part, value.elts[position], how)
                elif isinstance(part, ast.Name):
                    self.bind(part.id, Assigned(value, how, position))
        elif isinstance(target, ast.Starred):
            self._assign(target.value, value, "other")


class Module:
    """A file of the project."""

    def __init__(self, path: Path, shown: str, source: str, tree: ast.Module, namespace: str = "") -> None:
        self.path = path
        self.namespace = namespace
        """The name by which it was imported, of a directory without an `__init__.py`."""
        self.shown = shown
        self.source = source
        self.tree = tree
        self._functions: dict[ast.AST, FunctionInfo] = {}
        self._classes: dict[ast.AST, ClassInfo] = {}

    @cached_property
    def scope(self) -> Scope:
        scope = Scope(self, None, self.tree)
        scope.collect(self.tree.body)
        return scope

    def part(self, name: str) -> str:
        """What a module in this package is called here, whatever the package is imported as."""
        return f".{self.shown}:{name}"

    def function(self, node: AnyFunction, outer: Scope) -> FunctionInfo:
        if node not in self._functions:
            owner = self._classes.get(outer.node) if outer.is_class else None
            self._functions[node] = FunctionInfo(node, outer, owner)
        return self._functions[node]

    def owner_of(self, node: ast.AST) -> ClassInfo | None:
        info = self._functions.get(node)
        return info.owner if info is not None else None

    def class_(self, node: ast.ClassDef, outer: Scope) -> ClassInfo:
        if node not in self._classes:
            self._classes[node] = ClassInfo(node, outer)
        return self._classes[node]

    @cached_property
    def has_walrus(self) -> bool:
        return ":=" in self.source

    @cached_property
    def functions(self) -> list[FunctionInfo]:
        """Every function that a def statement makes, wherever it is."""
        return list(self._find_functions())

    def _find_functions(self) -> Iterator[FunctionInfo]:
        stack: list[tuple[ast.AST, Scope]] = [(self.tree, self.scope)]
        while stack:
            node, scope = stack.pop()
            for child in statements_in(node):
                if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                    info = self.function(child, scope)
                    yield info
                    stack.append((child, info.scope))
                elif isinstance(child, ast.ClassDef):
                    stack.append((child, self.class_(child, scope).scope))
                else:
                    stack.append((child, scope))

    @cached_property
    def changed_names(self) -> dict[Scope, set[str]]:
        """The names of each scope that functions in it change: rebind, or change what they name."""
        changed: dict[Scope, set[str]] = {}
        for info in self.functions:
            for node in info.nodes:
                for name in _changed_by(node, info.scope):
                    scope: Scope | None = info.scope
                    if name in info.scope.declared_global:
                        scope = self.scope
                    elif name in info.scope.declared_nonlocal:
                        scope = info.scope.parent
                    while scope is not None and (scope.is_class or not scope.owns(name)):
                        scope = scope.parent
                    if scope is not None and scope is not info.scope:
                        changed.setdefault(scope, set()).add(name)
        return changed


def _changed_by(node: ast.AST, scope: Scope) -> Iterator[str]:
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
        if node.id in scope.declared_global | scope.declared_nonlocal:
            yield node.id
    elif isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
        if (root := root_name(node)) is not None:
            yield root.id
    elif isinstance(node, ast.Call) and last_name(node.func) in MUTATORS:
        root = root_name(node.func)
        if root is not None and isinstance(node.func, ast.Attribute):
            yield root.id


class Project:
    """Modules, found by path or by import."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.modules: dict[Path, Module | None] = {}
        self.broken: list[tuple[str, int, int, str]] = []
        self.unread: dict[str, str] = {}
        """The modules that are imported and cannot be read, by their names, and where they are."""
        self._directories: dict[tuple[Path, str], Path | None] = {}

    def load(self, path: Path) -> Module | None:
        """The module in a file; None if it cannot be parsed, which is noted."""
        if path in self.modules:
            return self.modules[path]
        shown = self._shown(path)
        module = None
        try:
            with tokenize.open(path) as stream:
                source = stream.read()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                module = Module(path, shown, source, ast.parse(source))
        except SyntaxError as error:
            why = (error.msg or "invalid syntax").removesuffix(f" for {str(path)!r}")
            self.broken.append((shown, error.lineno or 1, error.offset or 1, why))
        except (OSError, ValueError, RecursionError, MemoryError) as error:
            self.broken.append((shown, 1, 1, getattr(error, "strerror", None) or str(error) or "too deep"))
        self.modules[path] = module
        return module

    def find(self, imported: Imported, importer: Module) -> tuple[Module | None, str | None]:
        """The module of the project that an import leads to, and the attribute of it that is meant."""
        if imported.level:
            directory = importer.path.parent
            for _ in range(imported.level - 1):
                directory = directory.parent
            found = self._in(directory, imported.module.split(".") if imported.module else [])
        else:
            parts = imported.module.split(".")
            if parts[0] in OUTSIDE:
                return None, None
            base = self._directory(importer.path.parent, parts[0])
            found = None if base is None else self._in(base, parts)
            directory = base or importer.path.parent
        if imported.attribute is not None:
            parts = [*(imported.module.split(".") if imported.module else []), imported.attribute]
            if found is None or found == importer.path or imported.attribute not in self._names(found):
                deeper = self._in(directory, parts)
                if deeper is not None:
                    return self._load(deeper, "." * imported.level + ".".join(parts)), None
        if found is None and imported.attribute is None and not imported.level:
            return self._namespace(directory.joinpath(*parts), imported.module), None
        if found is None:
            return None, None
        return self._load(found, "." * imported.level + imported.module), imported.attribute

    def _load(self, path: Path, name: str) -> Module | None:
        """The module in a file, and a note if what is imported by this name cannot be read."""
        module = self.load(path)
        if module is None:
            self.unread[name] = self._shown(path)
        return module

    def _shown(self, path: Path) -> str:
        return os.path.relpath(path, self.root) if path.is_relative_to(self.root) else str(path)

    def _namespace(self, directory: Path, name: str) -> Module | None:
        """What stands for a directory of modules that is no regular package."""
        path = directory / "__init__.py"
        if path not in self.modules and _is_namespace(directory):
            shown = os.path.relpath(path, self.root)
            self.modules[path] = Module(path, shown, "", ast.Module([], []), name)
        return self.modules.get(path)

    def _names(self, path: Path) -> dict[str, list[Binding]]:
        module = self.load(path)
        return module.scope.bindings if module is not None else {}

    def submodule(self, module: Module, name: str) -> Module | None:
        """A module in a package."""
        if module.path.name != "__init__.py":
            return None
        found = self._in(module.path.parent, [name])
        if found is None and module.namespace:
            return self._namespace(module.path.parent / name, f"{module.namespace}.{name}")
        return self._load(found, module.part(name)) if found is not None else None

    def _in(self, directory: Path, parts: list[str]) -> Path | None:
        target = directory.joinpath(*parts)
        file = target.with_name(f"{target.name}.py")
        if parts and (file in self.modules or file.is_file()):
            return file
        init = target / "__init__.py"
        return init if init in self.modules or init.is_file() else None

    def _directory(self, start: Path, name: str) -> Path | None:
        """The directory from which a top-level name is imported: one of those above, or their src."""
        key = start, name
        if key not in self._directories:
            self._directories[key] = None
            directories = [start, *start.parents]
            if self.root in directories:
                directories = directories[: directories.index(self.root) + 1]
            else:
                directories = directories[:8]
            bases = [base for directory in directories for base in (directory, directory / "src")]
            for is_there in (_is_module, _is_namespace):
                for base in bases:
                    if self._directories[key] is None and is_there(base / name):
                        self._directories[key] = base
        return self._directories[key]


def _is_module(path: Path) -> bool:
    return path.with_name(path.name + ".py").is_file() or (path / "__init__.py").is_file()


def _is_namespace(directory: Path) -> bool:
    """Whether a directory may be a package without an `__init__.py`: those that have one come first."""
    return directory.is_dir() and any(
        any(directory.glob(pattern)) for pattern in ("*.py", "*/*.py", "*/*/*.py")
    )


def own_nodes(function: AnyFunction) -> Iterator[ast.AST]:
    """The nodes of a function's body, without those of the functions in it."""
    stack: list[ast.AST] = list(function.body) if isinstance(function.body, list) else [function.body]
    while stack:
        node = stack.pop()
        yield node
        if type(node) in _OTHER_SCOPES:
            continue
        for name in node._fields:
            part = getattr(node, name, None)
            if type(part) is list:
                stack.extend(each for each in part if isinstance(each, ast.AST))
            elif isinstance(part, ast.AST) and type(part) not in _LEAVES:
                stack.append(part)


def statements_in(node: ast.AST) -> list[ast.AST]:
    """The statements right inside of a statement."""
    found: list[ast.AST] = []
    for name in ("body", "handlers", "orelse", "finalbody", "cases"):
        part = getattr(node, name, None)
        if type(part) is list:
            found.extend(part)
    return found


def _raises_not_implemented(node: ast.expr) -> bool:
    return last_name(node.func if isinstance(node, ast.Call) else node) == "NotImplementedError"


def last_name(node: ast.AST) -> str:
    """``c`` of ``a.b.c``."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def root_name(node: ast.AST) -> ast.Name | None:
    """``a`` of ``a.b[0].c``."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node if isinstance(node, ast.Name) else None
