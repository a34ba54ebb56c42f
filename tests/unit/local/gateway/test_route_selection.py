"""Which route a message goes to."""

import pytest

from local.gateway.route_selection import RouteSelection

ROUTES = {"$connect", "$default", "vote", "1"}


@pytest.mark.parametrize("expression", ["$request.body.action", "${request.body.action}"])
@pytest.mark.parametrize(
    ("message", "route_key"),
    [
        ('{"action": "vote"}', "vote"),
        ('{"action": "1"}', "1"),
        ('{"action": 1}', "$default"),
        ('{"action": "unknown"}', "$default"),
        ('{"action": "$connect"}', "$default"),
        ('{"action": ["vote"]}', "$default"),
        ('["vote"]', "$default"),
        ('"vote"', "$default"),
        ("vote", "$default"),
        ("", "$default"),
        ("[" * 100_000, "$default"),
        (b'{"action": "vote"}', "$default"),
    ],
)
def test_a_message_goes_to_the_route_that_it_names_and_else_to_the_default(expression, message, route_key) -> None:
    assert RouteSelection(expression, ROUTES).route_key(message) == route_key


def test_a_path_leads_into_objects() -> None:
    selection = RouteSelection("$request.body.message.kind", ROUTES)
    assert selection.route_key('{"message": {"kind": "vote"}}') == "vote"
    assert selection.route_key('{"message": "vote"}') == "$default"


@pytest.mark.parametrize("expression", ["", "$request.header.action", "$request.body", "$request.body.a b"])
def test_another_expression_is_refused(expression) -> None:
    with pytest.raises(ValueError, match="cannot select routes by"):
        RouteSelection(expression, ROUTES)
