"""`sam deploy` by the real SAM CLI, for each environment of samconfig.toml, against moto.

It goes from the command line through the bucket that the SAM CLI makes for itself and the upload to a change set with
the expanded template. There it ends: moto's CloudFormation (tests/sam/cloudformation.py says how it is completed) knows
few of the resources, so nothing is executed, and it never refuses a value. What arrives is therefore held against the
template's Rules, AllowedValues, AllowedPatterns and bounds here.
"""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from samcli.cli.types import CfnParameterOverridesType

from tests.sam.cloudformation import CloudFormation, answered, cloudformation
from tests.sam.conftest import SAM, TIMEOUT_S, Build
from tests.sam.expansion import REGION, TEMPLATE, declared
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
    region = config["global"]["parameters"].get("region", REGION)
    described = aws.change_sets(asked.stack, region)[-1]
    assert described["Status"] == "CREATE_COMPLETE"
    assert {one["ParameterKey"]: one["ParameterValue"] for one in described["Parameters"]} == asked.parameters
    added = {one["ResourceChange"]["ResourceType"] for one in described["Changes"]}
    assert {"AWS::Lambda::Function", "AWS::ApiGatewayV2::Api", "AWS::CodeDeploy::DeploymentGroup"} <= added
    assert not [kind for kind in added if kind.startswith("AWS::Serverless")]
    bucket, _, key = asked.url.removeprefix(f"{aws.url}/").partition("/")
    assert bucket.startswith("aws-sam-cli-managed-default-")
    assert key.startswith(given.get("s3_prefix", ""))
    aws.client(region).delete_stack(StackName=asked.stack)
    return asked.parameters


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_a_plain_deployment_arrives_as_configured(aws: CloudFormation, project: Path, environment: str) -> None:
    words = ["--config-env", environment] if environment != "default" else []
    aws.run(project, [str(SAM), "deploy", *words, "--no-execute-changeset"])
    assert checked(aws, environment) == configured(environment)


def test_each_environment_says_whether_its_database_is_protected() -> None:
    """The first deployment turns it off by hand, and a parameter that is not given keeps its value in the stack."""
    silent = [name for name in ENVIRONMENTS if "ProtectDatabase" not in configured(name)]
    assert silent == ["default"]  # which is for --guided, and that asks


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_a_guided_deployment_asks_for_all_and_saves_what_is_no_secret(
    aws: CloudFormation, project: Path, environment: str
) -> None:
    words = ["deploy", "--no-execute-changeset", "--guided", "--config-env", environment]
    status, screen = answered(project, aws.env, words, ANSWERS | YES | {"OptionA": 'Green "Tea"'})
    assert status == 0, screen
    wanted = defaults() | configured(environment) | {"OptionA": 'Green "Tea"'}
    assert checked(aws, environment) == wanted | ANSWERS
    saved = tomllib.loads((project / "samconfig.toml").read_text())[environment]["deploy"]["parameters"]
    read = CfnParameterOverridesType().convert(saved["parameter_overrides"], None, None)  # as `sam deploy` does
    assert read == {name: value for name, value in wanted.items() if name not in ANSWERS}


# ---------------------------------------------------------------- a change set that is only looked at


@pytest.fixture
def change_set(project: Path) -> Sequence[str]:
    """The command of `make change-set ENV=dev`, where `sam build` has been already."""
    (project / "scripts").mkdir()
    for name in ("deploy.py", "change_set.py"):
        shutil.copy(ROOT / "scripts" / name, project / "scripts")
    shutil.copy(TEMPLATE, project)
    sam = project / "sam"
    sam.write_text(f'#!/bin/sh\n[ "$1" = build ] || exec {SAM} "$@"\n')
    sam.chmod(0o700)
    return [sys.executable, str(project / "scripts" / "change_set.py"), str(sam), "dev"]


def test_a_change_set_of_a_stack_keeps_what_is_not_given_and_is_deleted_again(
    aws: CloudFormation, project: Path, change_set: Sequence[str]
) -> None:
    client = aws.client()
    resources = {"Topic": {"Type": "AWS::SNS::Topic"}}
    template = json.dumps({"Parameters": declared()["Parameters"], "Resources": resources})
    secret = {"ParameterKey": "RedisUrl", "ParameterValue": "rediss://:secret@r"}
    client.create_stack(StackName="voting-dev", TemplateBody=template, Parameters=[secret])
    client.create_change_set(
        StackName="voting-dev",
        ChangeSetName="others",
        ChangeSetType="UPDATE",
        TemplateBody=template,
        Parameters=[secret],
    )
    others = [one["ChangeSetId"] for one in aws.change_sets("voting-dev")]
    role = "arn:aws:iam::123456789012:role/execution"
    pipeline = ["--no-confirm-changeset", "--no-progressbar", "--role-arn", role, "--s3-prefix", "pull-request"]
    words = ["--parameter-overrides", "OptionB=Green Tea", *pipeline]
    said = aws.run(project, [*change_set, *words])
    asked = aws.asked[-1]
    assert (asked.kind, asked.stack, asked.role) == ("UPDATE", "voting-dev", role)
    release = asked.parameters["Release"]
    assert asked.parameters == configured("dev") | {"OptionB": "Green Tea", "Release": release}
    assert asked.former == declared()["Parameters"].keys() - asked.parameters.keys()
    assert "RedisUrl" in asked.former
    assert "/pull-request/" in asked.url
    assert "+ Add" in said
    assert "deleted arn:" in said
    assert [one["ChangeSetId"] for one in aws.change_sets("voting-dev")] == others
    assert client.describe_stacks(StackName="voting-dev")["Stacks"][0]["StackStatus"] == "CREATE_COMPLETE"
    assert refused(declared(), {**asked.parameters, "RedisUrl": "none"}) == []


def test_a_change_set_needs_no_options(aws: CloudFormation, project: Path, change_set: Sequence[str]) -> None:
    before = {one["ChangeSetId"] for one in aws.change_sets("voting-dev")}
    said = aws.run(project, change_set)
    assert aws.asked[-1].stack == "voting-dev"
    assert "deleted arn:" in said
    assert {one["ChangeSetId"] for one in aws.change_sets("voting-dev")} <= before


@pytest.mark.parametrize(
    ("options", "region"),
    [
        ([], "eu-central-1"),
        (["--region"], "eu-central-1"),
        (["--region", "us-east-1"], "us-east-1"),
        (["--region=us-east-1", "--debug"], "us-east-1"),
    ],
)
def test_a_change_set_is_looked_for_where_it_was_made(options: Sequence[str], region: str) -> None:
    code = f"import change_set; print(change_set.setting('region', 'dev', {options!r}))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT / "scripts", capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    assert done.stdout.strip() == region, done.stderr
