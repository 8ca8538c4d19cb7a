"""Recipes: what is read, what is refused, and in which words."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import field
from decimal import Decimal
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openbook.config import config, digest, dump, load_recipe, merge, parse, read_overrides
from openbook.errors import UserError


@config
class Circle:
    """Round."""

    kind: Literal["circle"] = "circle"
    radius: float

    def __post_init__(self) -> None:
        if self.radius <= 0:
            raise ValueError("radius must be positive")


@config
class Square:
    """Not round."""

    kind: Literal["square"] = "square"
    side: int


@config
class Drawing:
    """A sheet."""

    title: str
    shape: Circle | Square
    background: Circle | None = None
    layers: tuple[Circle, ...] = ()
    legend: Mapping[str, Square | Circle] = field(default_factory=dict)
    color: Literal["black", "white"] = "black"
    sizes: tuple[int, ...] = (1, 2)
    folder: Path = Path("out")
    price: Decimal = Decimal("0.55")
    note: str | None = None


SCHEMAS: dict[str, type] = {"draw": Drawing, "round": Circle}
PLAIN = {"title": "one", "shape": {"kind": "circle", "radius": 2}}


def refusal(data: Mapping[str, object]) -> str:
    with pytest.raises(UserError) as caught:
        parse(Drawing, data)
    return str(caught.value)


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_mapping_becomes_the_frozen_dataclass_it_describes() -> None:
    drawing = parse(
        Drawing,
        PLAIN | {"layers": [{"radius": 1}], "sizes": [3], "folder": "a/b", "price": "2.19", "color": "white"},
    )
    assert drawing == Drawing(
        title="one",
        shape=Circle(radius=2.0),
        layers=(Circle(radius=1.0),),
        sizes=(3,),
        folder=Path("a/b"),
        price=Decimal("2.19"),
        color="white",
    )
    assert isinstance(drawing.shape, Circle)
    assert isinstance(drawing.shape.radius, float)
    with pytest.raises(AttributeError):
        drawing.title = "two"  # type: ignore[misc]


def test_kind_tells_the_members_of_a_union_apart() -> None:
    assert parse(Drawing, PLAIN | {"shape": {"kind": "square", "side": 3}}).shape == Square(side=3)
    legend = parse(Drawing, PLAIN | {"legend": {"a": {"kind": "square", "side": 3}}}).legend
    assert legend == {"a": Square(side=3)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tilte": "x"}, "tilte: unknown key; did you mean 'title'?"),
        ({"shape": {"kind": "circle", "radios": 2}}, "shape.radios: unknown key; did you mean 'radius'?"),
        ({"shape": {"kind": "circel"}}, "shape.kind: unknown kind 'circel'; did you mean 'circle'?"),
        ({"shape": {"radius": 2}}, "shape.kind: missing; known: circle, square"),
        ({"shape": {"kind": "circle"}}, "shape.radius: missing; it has no default in Circle"),
        ({"shape": {"kind": "circle", "radius": -1}}, "shape: radius must be positive"),
        ({"shape": 3}, "shape: expected a table, not 3"),
        ({"background": 3}, "background: expected a table, not 3"),
        ({"layers": [{"radius": 1}, {"radius": 0}]}, "layers[1]: radius must be positive"),
        ({"layers": {"radius": 1}}, "layers: expected a list of tables, not {'radius': 1}"),
        (
            {"legend": {"a": {"kind": "square", "sied": 1}}},
            "legend.a.sied: unknown key; did you mean 'side'?",
        ),
        (
            {"color": "blakc"},
            "color: input should be 'black' or 'white', not 'blakc'; did you mean 'black'?",
        ),
        ({"sizes": [1, "2"]}, "sizes[1]: input should be a valid integer, not '2'"),
        ({"sizes": [1.5]}, "sizes[0]: input should be a valid integer, not 1.5"),
        ({"title": 1}, "title: input should be a valid string, not 1"),
    ],
)
def test_a_refusal_names_the_full_key_and_the_nearest_valid_one(
    change: dict[str, object], message: str
) -> None:
    assert refusal(PLAIN | change) == message


def test_a_refusal_starts_where_the_mapping_came_from() -> None:
    with pytest.raises(UserError, match=r"^model\.shape\.sid: unknown key; did you mean 'side'\?$"):
        parse(Drawing, {"title": "x", "shape": {"kind": "square", "sid": 1}}, where="model")


def test_none_is_written_as_a_word_where_none_is_allowed() -> None:
    assert parse(Drawing, PLAIN | {"background": "none", "note": "none"}).note is None
    assert "title" not in refusal(PLAIN | {"color": "none"})
    assert parse(Drawing, PLAIN | {"title": "none"}).title == "none"


def test_a_dump_is_complete_and_reads_back_to_the_same_config() -> None:
    drawing = parse(
        Drawing, PLAIN | {"background": {"radius": 1}, "legend": {"a": {"kind": "square", "side": 3}}}
    )
    data = dump(drawing)
    assert data["shape"] == {"kind": "circle", "radius": 2.0}
    assert data["price"] == "0.55" and data["folder"] == "out" and data["note"] is None
    assert parse(Drawing, data) == drawing


@given(st.floats(min_value=1e-6, max_value=1e6), st.text(max_size=20), st.lists(st.integers()))
def test_any_dump_reads_back(radius: float, title: str, sizes: list[int]) -> None:
    drawing = Drawing(title=title, shape=Circle(radius=radius), sizes=tuple(sizes))
    assert parse(Drawing, dump(drawing)) == drawing


def test_equal_configs_have_equal_digests_however_they_were_written() -> None:
    written = parse(Drawing, {"shape": {"radius": 2, "kind": "circle"}, "title": "one", "color": "black"})
    assert digest(written) == digest(parse(Drawing, PLAIN))
    assert digest(written).startswith("sha256:")
    assert digest(written) != digest(parse(Drawing, PLAIN | {"title": "two"}))


def test_a_recipe_names_its_verb_and_is_checked_against_it(tmp_path: Path) -> None:
    path = write(tmp_path, "small.toml", 'verb = "round"\nradius = 3')
    recipe = load_recipe(path, SCHEMAS)
    assert (recipe.verb, recipe.name, recipe.config) == ("round", "small", Circle(radius=3.0))
    assert recipe.digest == digest(Circle(radius=3.0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("radius = 3", 'no verb; its first line must be one of: verb = "draw", verb = "round"'),
        ('verb = "drwa"', "unknown verb 'drwa'; did you mean 'draw'?"),
        ("verb = ", "not valid TOML"),
        ('verb = "round"\nextends = "gone.toml"', "which does not exist"),
    ],
)
def test_a_recipe_that_cannot_be_read_says_which_file_and_why(
    tmp_path: Path, text: str, message: str
) -> None:
    path = write(tmp_path, "bad.toml", text)
    with pytest.raises(UserError) as caught:
        load_recipe(path, SCHEMAS)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


def test_extends_takes_one_level_and_merges_tables(tmp_path: Path) -> None:
    write(
        tmp_path,
        "base.toml",
        'verb = "draw"\ntitle = "base"\nsizes = [1, 2, 3]\n[shape]\nkind = "circle"\nradius = 1',
    )
    child = write(
        tmp_path, "child.toml", 'verb = "draw"\nextends = "base.toml"\nsizes = [9]\n[shape]\nradius = 5'
    )
    assert load_recipe(child, SCHEMAS).config == Drawing(title="base", shape=Circle(radius=5), sizes=(9,))
    grandchild = write(tmp_path, "grandchild.toml", 'verb = "draw"\nextends = "child.toml"')
    with pytest.raises(UserError, match="one level only"):
        load_recipe(grandchild, SCHEMAS)


def test_extends_refuses_a_base_of_another_verb(tmp_path: Path) -> None:
    write(tmp_path, "base.toml", 'verb = "round"\nradius = 1')
    child = write(tmp_path, "child.toml", 'verb = "draw"\nextends = "base.toml"')
    with pytest.raises(UserError, match=r"verb 'draw' extends .* of verb 'round'"):
        load_recipe(child, SCHEMAS)


def test_a_table_of_another_kind_replaces_instead_of_merging(tmp_path: Path) -> None:
    write(tmp_path, "base.toml", 'verb = "draw"\ntitle = "base"\n[shape]\nkind = "circle"\nradius = 1')
    child = write(tmp_path, "child.toml", 'extends = "base.toml"\n[shape]\nkind = "square"\nside = 5')
    assert load_recipe(child, SCHEMAS).config.shape == Square(side=5)


def test_set_overrides_any_depth_and_its_order_does_not_lose_a_kind(tmp_path: Path) -> None:
    path = write(tmp_path, "a.toml", 'verb = "draw"\ntitle = "x"\n[shape]\nkind = "circle"\nradius = 1')
    recipe = load_recipe(path, SCHEMAS, ["shape.side=4", "shape.kind=square", "title=two words"])
    assert recipe.config == Drawing(title="two words", shape=Square(side=4))


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("a=1", {"a": 1}),
        ("a.b.c=1e-3", {"a": {"b": {"c": 1e-3}}}),
        ("a=[1, 2]", {"a": [1, 2]}),
        ("a=true", {"a": True}),
        ("a='1'", {"a": "1"}),
        ("a=b=c", {"a": "b=c"}),
        ("a=plain words", {"a": "plain words"}),
        ("a=1\nb=2", {"a": "1\nb=2"}),
        ("a=", {"a": ""}),
    ],
)
def test_a_value_on_the_command_line_is_toml_or_a_bare_string(
    override: str, value: dict[str, object]
) -> None:
    assert read_overrides([override]) == value


@pytest.mark.parametrize("override", ["a", "=1", "a..b=1", ".a=1"])
def test_an_override_without_key_or_value_is_refused(override: str) -> None:
    with pytest.raises(UserError, match=r"not of the form a\.b=c"):
        read_overrides([override])


def test_of_two_overrides_the_later_wins_and_neither_input_changes() -> None:
    assert read_overrides(["a.b=1", "a.c=2", "a.b=3"]) == {"a": {"b": 3, "c": 2}}
    base = {"a": {"b": 1}}
    assert merge(base, {"a": {"b": 2}}) == {"a": {"b": 2}}
    assert base == {"a": {"b": 1}}


def test_declaring_configs_loads_no_pydantic() -> None:
    probe = "import sys, openbook.model.config; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0
