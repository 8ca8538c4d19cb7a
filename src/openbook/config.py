"""Recipes: strict TOML into frozen dataclasses.

A config is a plain frozen dataclass made with `@config`, declared beside what it configures.
`parse` checks a mapping against it: an unknown key is an error that names the full dotted key
and the nearest valid one. `load_recipe` reads a TOML file that names its `verb`, applies one
level of `extends` and the `--set a.b=c` overrides, and checks it against the class of its verb.

TOML has no null: the string "none" stands for it wherever a field may be None.
pydantic checks the values and is named nowhere else outside `serve`.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import tomllib
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, Union, cast, dataclass_transform

from openbook.errors import UserError, nearest

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(dataclasses.field,))
def config(cls: type[T]) -> type[T]:
    """Class decorator: a frozen, keyword-only, slotted dataclass.

    Range checks go into `__post_init__` as `ValueError("lr must be positive")`; `parse`
    adds where in the recipe that was.
    """
    return dataclasses.dataclass(frozen=True, kw_only=True, slots=True)(cls)


def require_at_least(minimum: float, **values: float) -> None:
    """ValueError naming the first of `values` that is below `minimum`; for `__post_init__`."""
    for name, value in values.items():
        if value < minimum:
            raise ValueError(f"{name} must be at least {minimum}, not {value}")


def parse(cls: type[T], data: Mapping[str, Any], *, where: str = "") -> T:
    """`data` checked against the config class `cls`.

    `where` is the dotted key of `data` itself, for the errors. Raises UserError for an
    unknown, missing or unfit value, naming its full dotted key. A class may have a class variable
    ALIASES: what keys of other systems are called here.
    """
    if not isinstance(data, Mapping):
        raise UserError(f"{where or cls.__name__}: expected a table, not {_show(data)}")
    hints = field_types(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in data:
        if key not in fields:
            known = getattr(cls, "ALIASES", {}).get(key)
            mend = f"here that is {known}" if known else nearest(str(key), list(fields))
            raise UserError(f"{_join(where, str(key))}: unknown key", mend)
    for name, field in fields.items():
        if name not in data and _is_required(field):
            raise UserError(f"{_join(where, name)}: missing", f"it has no default in {cls.__name__}")
    values = {key: _read(hints[key], value, _join(where, key)) for key, value in data.items()}
    try:
        return cls(**values)
    except UserError as error:
        raise UserError(f"{where or cls.__name__}: {error.what}", error.mend) from error
    except ValueError as error:
        raise UserError(f"{where or cls.__name__}: {error}") from error


def parse_kind(classes: Sequence[type], data: Mapping[str, Any], *, where: str = "") -> Any:
    """`data` checked against the one of several config classes whose `kind` it names."""
    by_kind = {kind: cls for cls in classes for kind in typing.get_args(field_types(cls)["kind"])}
    kind = data.get("kind")
    if kind is None:
        raise UserError(f"{_join(where, 'kind')}: missing", f"known: {', '.join(sorted(by_kind))}")
    if kind not in by_kind:
        raise UserError(
            f"{_join(where, 'kind')}: unknown kind {_show(kind)}", nearest(str(kind), list(by_kind))
        )
    return parse(by_kind[kind], data, where=where)


Schema: TypeAlias = "type | tuple[type, ...]"
"""A config class, or several that are told apart by `kind`; the first is meant where none is given."""


def parse_schema(schema: Schema, data: Mapping[str, Any]) -> Any:
    """`data` checked against a schema. Raises UserError."""
    if isinstance(schema, type):
        return parse(schema, data)
    return parse_kind(schema, data) if "kind" in data else parse(schema[0], data)


def parse_toml(cls: type[T], text: str, *, where: str, parse_float: Callable[[str], Any] = float) -> T:
    """A TOML text as the config class `cls`; `where` names it in errors. Raises UserError."""
    try:
        data = tomllib.loads(text, parse_float=parse_float)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{where}: not valid TOML: {error}") from error
    try:
        return parse(cls, data)
    except UserError as error:
        raise UserError(f"{where}: {error.what}", error.mend) from error


def read_text(path: Path, what: str) -> str:
    """The text of a user's file, such as a `price plan`. Raises UserError."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{what} {path} cannot be read ({error})", "name another file") from error


def field_types(cls: type) -> Mapping[str, Any]:
    """The resolved type of each field of a config class, in order."""
    return _field_types(cls)


@cache
def _field_types(cls: type) -> Mapping[str, Any]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def dump(cfg: object) -> dict[str, Any]:
    """A config as JSON-able data with every default resolved; `parse` reads it back."""
    assert dataclasses.is_dataclass(cfg) and not isinstance(cfg, type)
    return {field.name: _plain(getattr(cfg, field.name)) for field in dataclasses.fields(cfg)}


def digest(cfg: object) -> str:
    """`sha256:...` of the canonical JSON of `dump(cfg)`: equal configs, equal digests."""
    text = json.dumps(dump(cfg), sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A recipe file, checked and resolved. `config` is an instance of the class of its verb."""

    verb: str
    name: str
    path: Path
    config: Any
    digest: str


def load_recipe(path: Path, schemas: Mapping[str, Schema], overrides: Sequence[str] = ()) -> Recipe:
    """Read the recipe at `path`, extend it, apply `--set` overrides, check it against its verb.

    Raises UserError for anything in the file or the overrides that does not fit.
    """
    tables = _read_extended(path)
    verb = tables.pop("verb", None)
    if verb is None:
        raise UserError(f"{path}: no verb", f"its first line must be one of: {_verb_lines(schemas)}")
    if verb not in schemas:
        raise UserError(f"{path}: unknown verb {verb!r}", nearest(str(verb), list(schemas)))
    cfg: Any = parse_schema(schemas[verb], merge(tables, read_overrides(overrides)))
    return Recipe(verb=verb, name=path.stem, path=path, config=cfg, digest=digest(cfg))


def read_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """`["optim.lr=1e-3", "model.moe=none"]` as nested tables; of two for one key the later wins.

    A value is TOML; what is not valid TOML is taken as a bare string.
    """
    tables: dict[str, Any] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        names = [name.strip() for name in key.split(".")]
        if not equals or not all(names):
            raise UserError(f"--set {override}: not of the form a.b=c")
        value: Any = _read_value(text.strip())
        for name in reversed(names):
            value = {name: value}
        tables = merge(tables, value)
    return tables


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `change` on top: tables merge, everything else replaces.

    A table that changes its `kind` replaces the old one: the fields of one kind mean
    nothing to another.
    """
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping) and not _changes_kind(old, value):
            merged[key] = merge(old, value)
        else:
            merged[key] = value
    return merged


def _changes_kind(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return "kind" in new and new["kind"] != old.get("kind", new["kind"])


def _read_value(text: str) -> Any:
    try:
        document = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return document["value"] if len(document) == 1 else text


def _verb_lines(schemas: Mapping[str, Schema]) -> str:
    return ", ".join(f'verb = "{verb}"' for verb in schemas)


def _read_extended(path: Path) -> dict[str, Any]:
    tables = _read_toml(path)
    if "extends" not in tables:
        return tables
    base_path = path.parent / str(tables.pop("extends"))
    if not base_path.is_file():
        raise UserError(
            f"{path}: extends {base_path}, which does not exist", "relative paths start at the file"
        )
    base = _read_toml(base_path)
    if "extends" in base:
        raise UserError(f"{path}: extends {base_path}, which itself extends", "one level only; merge the two")
    if base.get("verb", tables.get("verb")) != tables.get("verb", base.get("verb")):
        raise UserError(f"{path}: verb {tables['verb']!r} extends {base_path} of verb {base['verb']!r}")
    return merge(base, tables)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid TOML: {error}") from error


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _read(annotation: Any, value: Any, where: str) -> Any:
    """One value read as `annotation`: configs by `parse`, containers of them item by item."""
    options = _union_options(annotation)
    if type(None) in options:
        if value is None or value == "none":
            return None
        options = tuple(option for option in options if option is not type(None))
    configs = tuple(cast(type, option) for option in options if dataclasses.is_dataclass(option))
    if configs:
        return _read_config(configs, value, where)
    if len(options) == 1 and (item := _config_item(options[0])) is not None:
        return _read_container(options[0], item, value, where)
    # Union[...] and not `|`: the options are only known now
    return _read_leaf(Union[options], value, where)  # noqa: UP007


def _union_options(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _config_item(annotation: Any) -> Any:
    """The item type of `tuple[Item, ...]` or `Mapping[str, Item]` if it holds configs."""
    args = typing.get_args(annotation)
    items = {tuple: args[:1], dict: args[1:], Mapping: args[1:]}.get(typing.get_origin(annotation), ())
    for item in items:
        if any(dataclasses.is_dataclass(option) for option in _union_options(item)):
            return item
    return None


def _read_container(annotation: Any, item: Any, value: Any, where: str) -> Any:
    if typing.get_origin(annotation) is tuple:
        if not isinstance(value, list | tuple):
            raise UserError(f"{where}: expected a list of tables, not {_show(value)}")
        return tuple(_read(item, entry, f"{where}[{index}]") for index, entry in enumerate(value))
    if not isinstance(value, Mapping):
        raise UserError(f"{where}: expected a table of tables, not {_show(value)}")
    return {str(key): _read(item, entry, _join(where, str(key))) for key, entry in value.items()}


def _read_config(classes: tuple[type, ...], value: Any, where: str) -> Any:
    """A config; of several classes the one whose `kind` the table names."""
    if any(isinstance(value, cls) for cls in classes):
        return value
    if len(classes) == 1:
        return parse(classes[0], value, where=where)
    if not isinstance(value, Mapping):
        raise UserError(f"{where}: expected a table, not {_show(value)}")
    return parse_kind(classes, value, where=where)


@cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(annotation)


def _read_leaf(annotation: Any, value: Any, where: str) -> Any:
    """A plain value, strictly: "1" is no integer, 1.5 is none either, a path is a string."""
    from pydantic import ValidationError

    try:
        return _adapter(annotation).validate_json(json.dumps(_plain(value)), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        inner = "".join(f"[{part}]" for part in first["loc"] if isinstance(part, int))
        choices = typing.get_args(annotation) if typing.get_origin(annotation) is Literal else ()
        mend = nearest(str(value), [str(choice) for choice in choices]) if choices else ""
        message = first["msg"][:1].lower() + first["msg"][1:]
        raise UserError(f"{where}{inner}: {message}, not {_show(first['input'])}", mend) from error


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dump(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return value
