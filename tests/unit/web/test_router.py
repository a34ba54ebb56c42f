"""The router, and what it makes of errors: covers router, errors and public_error."""

from pathlib import Path
from typing import Any

import yaml

from voting.web.router import ROUTES

TEMPLATE = Path(__file__).parents[3] / "template.yaml"


class Loader(yaml.SafeLoader):
    """Reads CloudFormation's tags such as !Ref as nothing."""


Loader.add_multi_constructor("!", lambda *_: None)


def test_the_table_is_that_of_the_template() -> None:
    resources: dict[str, Any] = yaml.load(TEMPLATE.read_text(), Loader)["Resources"]  # noqa: S506 - it is a SafeLoader
    declared: dict[str, set[str]] = {}
    for resource in resources.values():
        for event in resource.get("Properties", {}).get("Events", {}).values():
            route = event["Properties"]
            if event["Type"] == "HttpApi" and "Path" in route:
                declared.setdefault(route["Path"], set()).add(route["Method"])
    assert {path: set(methods) for path, methods in ROUTES.items()} == declared
