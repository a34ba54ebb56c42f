"""The parameter SnapStart: for the functions that people wait for, on the versions that their aliases lead to."""

import pytest

from tests.sam.expansion import expansion

WAITED_FOR = {"VoteFunction", "ResultFunction", "WsConnectFunction"}


@pytest.mark.parametrize(("value", "applied"), [("false", "None"), ("true", "PublishedVersions")])
def test_it_is_for_published_versions_of_the_functions_that_people_wait_for(value: str, applied: str) -> None:
    stack = expansion({"SnapStart": value})
    functions = stack.of("AWS::Lambda::Function")
    found = {name: one["SnapStart"]["ApplyOn"] for name, one in functions.items() if "SnapStart" in one}
    assert found == dict.fromkeys(WAITED_FOR, applied)
    aliases = {alias["FunctionName"]["Ref"] for alias in stack.of("AWS::Lambda::Alias").values()}
    assert aliases == WAITED_FOR


def test_none_of_them_has_what_snap_start_does_not_take() -> None:
    """https://docs.aws.amazon.com/lambda/latest/dg/snapstart.html, section on limits."""
    functions = expansion({"SnapStart": "true"}).of("AWS::Lambda::Function")
    for name in WAITED_FOR:
        function = functions[name]
        assert function["Runtime"] == "python3.13"
        assert "FileSystemConfigs" not in function
        assert function.get("EphemeralStorage", {}).get("Size", 512) <= 512
        assert function.get("PackageType", "Zip") == "Zip"
