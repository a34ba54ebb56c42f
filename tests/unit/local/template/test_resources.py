"""What a template tells of its functions, and the same template with other values."""

from pathlib import Path

from local.template.resources import Function, HttpRoute, Template, short_name


def function(name: str, environment: dict[str, str]) -> Function:
    return Function(name, Path(), "app.handler", 3.0, 128, environment, (), None, 0, 60.0)


ROUTES = tuple(HttpRoute(*route, "A") for route in (("GET", "/"), ("ANY", "/any"), ("POST", "/"), ("ANY", "$default")))
TEMPLATE = Template(
    {"A": function("A", {"URL": "old", "OTHER": "kept"}), "B": function("B", {})}, "Api", ROUTES, None, ()
)


def test_values_replace_only_what_a_function_declares() -> None:
    changed = TEMPLATE.with_variables({"URL": "new", "UNKNOWN": "x"})
    assert changed.functions["A"].environment == {"URL": "new", "OTHER": "kept"}
    assert changed.functions["B"].environment == {}
    assert TEMPLATE.functions["A"].environment["URL"] == "old"


def test_a_variable_is_declared_by_any_function() -> None:
    assert TEMPLATE.declares("URL")
    assert not TEMPLATE.declares("UNKNOWN")


def test_pages_are_what_a_browser_can_open() -> None:
    assert TEMPLATE.pages == ["/", "/any"]


def test_a_short_name_is_never_empty() -> None:
    assert [short_name(name) for name in ("VoteFunction", "Vote", "Function")] == ["Vote", "Vote", "Function"]
