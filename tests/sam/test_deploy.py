"""`sam deploy` by the real SAM CLI, for each environment of samconfig.toml, against moto.

It goes from the command line through the bucket that the SAM CLI makes for itself and the upload to a change set with
the expanded template. There it ends: moto's CloudFormation (tests/sam/cloudformation.py says how it is completed) knows
few of the resources, so nothing is executed, and it never refuses a value. What arrives is therefore held against the
template's Rules, AllowedValues, AllowedPatterns and bounds here.
"""

import os
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.sam.cloudformation import CloudFormation, answered, cloudformation
from tests.sam.conftest import Build
from tests.sam.expansion import TEMPLATE, declared
from tests.sam.values import refused

pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse AWS..S3..BucketPolicy")  # of the SAM CLI's own bucket
ROOT = TEMPLATE.parent
SAMCONFIG = tomllib.loads((ROOT / "samconfig.toml").read_text())
ENVIRONMENTS = sorted(SAMCONFIG.keys() - {"version"})
LAYER = "VotingLayer"
# No empty answer is taken for a secret, and each function is asked about that has a route without authentication.
ANSWERS = dict.fromkeys(("CookieKeys", "RedisUrl", "DatabaseUrl"), "none")
YES = {
    f"{function} has no authentication. Is this okay?": "y"
    for function in ("VoteFunction", "ResultFunction", "WsConnectFunction")
}


@pytest.fixture(scope="module")
def aws() -> Iterator[CloudFormation]:
    with cloudformation() as running:
        yield running


@pytest.fixture
def project(builds: Mapping[str, Build], tmp_path: Path) -> Path:
    """A folder where `sam build` has been, with a small layer: test_package.py has seen the upload of the real one."""
    source, built = builds["arm64"].folder, tmp_path / ".aws-sam" / "build"
    (built / LAYER / "python").mkdir(parents=True)
    (built / LAYER / "python" / "voting.txt").write_text("the layer")
    elsewhere = os.path.relpath(ROOT, source)  # functions have nothing to build, and are used where they are
    template = (source / "template.yaml").read_text()
    assert elsewhere in template
    (built / "template.yaml").write_text(template.replace(elsewhere, os.path.relpath(tmp_path, built)))
    (tmp_path / "functions").symlink_to(ROOT / "functions")
    shutil.copy(ROOT / "samconfig.toml", tmp_path)
    return tmp_path


def configured(environment: str) -> dict[str, str]:
    """The parameters as samconfig.toml has them."""
    pairs = SAMCONFIG[environment]["deploy"]["parameters"]["parameter_overrides"]
    return {name: value.strip('"') for name, value in (pair.split("=", 1) for pair in pairs)}


def defaults() -> dict[str, str]:
    return {name: str(one["Default"]) for name, one in declared()["Parameters"].items()}


def checked(aws: CloudFormation, environment: str) -> Mapping[str, str]:
    """Hold what arrived last against *environment* and the template; return the parameters."""
    asked = aws.asked[-1]
    config: Mapping[str, Any] = SAMCONFIG[environment]
    given = config["deploy"]["parameters"]
    assert asked.stack == config["global"]["parameters"]["stack_name"]
    assert asked.kind == "CREATE"
    assert asked.capabilities == ["CAPABILITY_IAM"]
    assert asked.tags == dict(tag.split("=") for tag in given.get("tags", []))
    assert refused(declared(), asked.parameters) == []
    described = aws.change_sets(asked.stack)[-1]
    assert described["Status"] == "CREATE_COMPLETE"
    assert {one["ParameterKey"]: one["ParameterValue"] for one in described["Parameters"]} == asked.parameters
    added = {one["ResourceChange"]["ResourceType"] for one in described["Changes"]}
    assert {"AWS::Lambda::Function", "AWS::ApiGatewayV2::Api", "AWS::CodeDeploy::DeploymentGroup"} <= added
    assert not [kind for kind in added if kind.startswith("AWS::Serverless")]
    bucket, _, key = asked.url.removeprefix(f"{aws.url}/").partition("/")
    assert bucket.startswith("aws-sam-cli-managed-default-")
    assert key.startswith(given.get("s3_prefix", ""))
    aws.client("cloudformation").delete_stack(StackName=asked.stack)
    return asked.parameters


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_a_plain_deployment_arrives_as_configured(aws: CloudFormation, project: Path, environment: str) -> None:
    words = ["--config-env", environment] if environment != "default" else []
    aws.sam(project, "deploy", *words, "--no-execute-changeset")
    assert checked(aws, environment) == configured(environment)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_a_guided_deployment_asks_for_all_and_saves_what_deploys_again(
    aws: CloudFormation, project: Path, environment: str
) -> None:
    words = ["deploy", "--no-execute-changeset", "--config-env", environment]
    status, screen = answered(project, aws.env, [*words, "--guided"], ANSWERS | YES | {"OptionA": "Green Tea"})
    assert status == 0, screen
    wanted = defaults() | configured(environment) | {"OptionA": "Green Tea"}
    assert checked(aws, environment) == wanted | ANSWERS
    aws.sam(project, *words)
    assert checked(aws, environment) == {name: value for name, value in wanted.items() if name not in ANSWERS}
