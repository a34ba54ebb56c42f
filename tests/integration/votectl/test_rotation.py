"""`votectl rotate` on CloudFormation as moto plays it: which parameters arrive, and what is printed and kept.

Covers command, rotate, stack, cookie_keys and new_value. moto cannot expand SAM's template, so the stack has its
parameters and the few resources that the command asks for.
"""

import io
import json
import os
import pty
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.models import CloudFormationBackend, cloudformation_backends
from moto.cloudformation.models import Stack as MotoStack

from tests.conftest import ROOT
from tests.sam.expansion import EXISTING_STORES, NEW_STORES, REGION, declared, expansion
from votectl.__main__ import main
from votectl.rotation import stack as stack_module

OLD_REDIS, NEW_REDIS = (
    "rediss://voting:the-old@cache.example.org:6379/0",
    "rediss://voting:the-new@cache.example.org:6379/0",
)
OLD_DATABASE, NEW_DATABASE = "postgresql://u:the-old@db.example.org/v", "postgresql://u:the-new@db.example.org/v"
OLD_KEY, NEW_KEY = "an-old-key-of-cookies-of-32-characters", "a-new-key-of-cookies-with-32-characters"
GIVEN = {
    **{name: value for name, value in EXISTING_STORES.items() if not name.startswith("Database")},
    "RedisUrl": OLD_REDIS,
    "DatabaseUrl": OLD_DATABASE,
    "OptionA": "Tea",
    "Release": "1795346003",
}
Run = Callable[..., int]


def template(*resources: str) -> str:
    """The parameters of template.yaml, and *resources* that only need be there: their physical ids are their names."""
    parameters = declared()["Parameters"]
    parameters["SubnetIds"]["Type"] = "String"  # moto loses the previous value of a list
    made = {name: {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": name}} for name in resources}
    packaged = {"VotingLayer": {"ContentUri": "s3://artifacts/voting-prod/0123"}}  # as `sam deploy` left it
    return json.dumps({"Metadata": packaged, "Parameters": parameters, "Resources": made})


def make_function(keys: str) -> None:
    """The function vote, which moto's CloudFormation cannot update."""
    role = boto3.client("iam").create_role(RoleName="vote", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    code = io.BytesIO()
    zipfile.ZipFile(code, "w").close()
    boto3.client("lambda").create_function(
        FunctionName="VoteFunction",
        Role=role,
        Code={"ZipFile": code.getvalue()},
        Environment={"Variables": {"COOKIE_KEYS": keys}},
    )


def update_function() -> None:
    """Do as CloudFormation does where the parameter has changed."""
    variables = {"COOKIE_KEYS": parameters()["CookieKeys"]}
    boto3.client("lambda").update_function_configuration(
        FunctionName="VoteFunction", Environment={"Variables": variables}
    )


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setattr(stack_module, "POLL_S", 0.01)
    with mock_aws():
        yield


@pytest.fixture
def create(aws: None) -> Callable[..., MotoStack]:
    """Create the stack `voting-prod` with *resources*, and *changed* parameters; as moto keeps it."""

    def create(*resources: str, **changed: str) -> MotoStack:
        given = [{"ParameterKey": name, "ParameterValue": value} for name, value in (GIVEN | changed).items()]
        if "CookieSecret" in resources:  # moto's CloudFormation makes none
            boto3.client("secretsmanager").create_secret(Name="CookieSecret", SecretString=OLD_KEY)
        client = boto3.client("cloudformation")
        body = template("VoteFunction", *resources)
        client.create_stack(StackName="voting-prod", TemplateBody=body, Parameters=given)
        if "CookieKeys" in changed:
            make_function(changed["CookieKeys"])
        where = {"LocationConstraint": REGION}
        boto3.client("s3").create_bucket(Bucket="artifacts", CreateBucketConfiguration=where)
        return kept()

    return create


def kept() -> MotoStack:
    (backend,) = (one for account in cloudformation_backends.values() for one in [account[REGION]])
    stack: MotoStack = backend.get_stack("voting-prod")
    return stack


def parameters() -> dict[str, str]:
    return dict(kept().stack_parameters)


@pytest.fixture
def rotate(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `votectl rotate --stack voting-prod` with *value* on standard input; the exit code."""

    def rotate(*words: str, value: str | None = None) -> int:
        if value is not None:
            monkeypatch.setattr(sys, "stdin", io.StringIO(value + "\n"))
            words = (*words, "--from", "-")
        return main(["rotate", "--stack", "voting-prod", *words])

    return rotate


@pytest.mark.parametrize(
    ("secret", "parameter", "value"),
    [("redis-url", "RedisUrl", NEW_REDIS), ("database-url", "DatabaseUrl", NEW_DATABASE)],
)
def test_one_parameter_and_the_release_change_and_no_other(
    create, rotate: Run, capsys, secret: str, parameter: str, value: str
) -> None:
    create()
    before = parameters()
    assert rotate(secret, value=value) == 0
    after = parameters()
    assert {name for name in before if before[name] != after[name]} == {parameter, "Release"}
    assert after[parameter] == value
    assert len(after["Release"]) == 10
    said = capsys.readouterr()
    assert "the-new" not in said.out + said.err
    assert "old" in said.out


def test_it_is_the_template_as_it_was_deployed_that_is_deployed_again(create, rotate: Run) -> None:
    """Expanded by SAM, it would have the old versions' names in it, and publish none."""
    create()
    before = kept().template
    assert rotate("redis-url", value=NEW_REDIS) == 0
    s3 = boto3.client("s3")
    (one,) = s3.list_objects_v2(Bucket="artifacts")["Contents"]
    text = s3.get_object(Bucket="artifacts", Key=one["Key"])["Body"].read().decode()
    assert json.loads(text) == json.loads(before)
    assert "the-new" not in text
    assert kept().template == before


def test_an_expanded_template_has_its_release_in_the_names_of_its_versions() -> None:
    versions = expansion(NEW_STORES | {"Release": "1795346003"}).of("AWS::Lambda::Version")
    assert versions
    assert all(name.endswith("Version1795346003") for name in versions)


def test_a_stack_that_sam_has_not_deployed_is_left_alone(create, rotate: Run, capsys) -> None:
    kept_as = create()
    kept_as.template = kept_as.template.replace("s3://", "")
    assert rotate("redis-url", value=NEW_REDIS) == 1
    assert "sam deploy" in capsys.readouterr().err
    assert parameters()["RedisUrl"] == OLD_REDIS


def test_a_file_may_hold_the_value(create, rotate: Run, tmp_path) -> None:
    create()
    (tmp_path / "new").write_text(NEW_REDIS + "\n")
    assert rotate("redis-url", "--from", str(tmp_path / "new")) == 0
    assert parameters()["RedisUrl"] == NEW_REDIS


@pytest.mark.parametrize(
    ("secret", "value", "word"),
    [
        ("redis-url", "cache.example.org:6379", "redis://"),
        ("redis-url", "", "redis://"),
        ("redis-url", "unix:///tmp/x", "redis://"),
        ("redis-url", "rediss://u:a#secret@cache:6379", "percent-encode"),
        ("redis-url", "rediss://u:a-secret@cache:6379/0?timeout=1", "option"),
        ("redis-url", "rediss://u:a-secret@cache:6379/0?ssl_cert_reqs=some", "REDIS_URL"),
        ("redis-url", "rediss://u:" + "a-secret" * 600 + "@cache:6379", "4096"),
        ("database-url", "postgresql://u:a@secret@db/v", "percent-encode"),
        ("database-url", "mysql://u:a-secret@db/v", "postgresql://"),
        ("cookie-keys", "a-secret", "32"),
        ("cookie-keys", f"a-secret-{OLD_KEY},b", "comma"),
        ("cookie-keys", f"a-secret {OLD_KEY}", "space"),
    ],
)
def test_a_value_that_functions_would_refuse_goes_nowhere(aws, rotate: Run, capsys, secret, value, word) -> None:
    """AWS is not even asked for the stack, which is not there."""
    assert rotate(secret, value=value) == 1
    said = capsys.readouterr()
    assert word in said.err
    assert "secret" not in said.err


def test_what_the_stack_has_by_itself_is_not_given(create, rotate: Run, capsys) -> None:
    create("Cache", "OperatorLogin")
    before = parameters()
    assert rotate("redis-url", value=NEW_REDIS) == 1
    assert rotate("database-url", value=NEW_DATABASE) == 1
    assert capsys.readouterr().err.count("of its own") == 2
    assert parameters() == before


@pytest.fixture
def deployed_keys(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The keys that each update of the stack brings to the functions, in order; first the signing one."""
    found: list[list[str]] = []
    execute = CloudFormationBackend.execute_change_set

    def noted(self: CloudFormationBackend, *arguments: Any, **named: Any) -> None:
        execute(self, *arguments, **named)
        if parameters()["CookieKeys"]:
            update_function()
        found.append(keys_now())

    monkeypatch.setattr(CloudFormationBackend, "execute_change_set", noted)
    return found


def keys_now() -> list[str]:
    if "CookieSecret" not in kept().resource_map:
        return parameters()["CookieKeys"].split(",")
    text: str = boto3.client("secretsmanager").get_secret_value(SecretId="CookieSecret")["SecretString"]
    return text.split(",")


WAYS: list[tuple[tuple[str, ...], dict[str, str]]] = [(("CookieSecret",), {}), ((), {"CookieKeys": OLD_KEY})]


@pytest.mark.parametrize(("resources", "given"), WAYS, ids=["in the stack's secret", "in the parameter"])
def test_a_new_key_is_verified_everywhere_before_it_signs(create, rotate: Run, deployed_keys, resources, given) -> None:
    create(*resources, **given)
    before = parameters()
    assert rotate("cookie-keys", value=NEW_KEY) == 0
    assert deployed_keys == [[OLD_KEY, NEW_KEY], [NEW_KEY, OLD_KEY]]
    changed = {name for name in before if before[name] != parameters()[name]}
    assert changed == {"Release"} | ({"CookieKeys"} if given else set())
    assert rotate("cookie-keys", "--drop-old") == 0
    assert deployed_keys[-1] == [NEW_KEY]
    assert rotate("cookie-keys", "--drop-old") == 1


def test_without_a_value_a_key_is_drawn(create, rotate: Run, capsys) -> None:
    create("CookieSecret")
    assert rotate("cookie-keys") == 0
    new, old = keys_now()
    assert (len(new), old) == (64, OLD_KEY)
    said = capsys.readouterr()
    assert new not in said.out + said.err


@pytest.fixture
def going_back(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let the update number n be rolled back by CloudFormation, as after a verdict of CodeDeploy."""
    executed: list[int] = []

    def at(number: int) -> None:
        execute = CloudFormationBackend.execute_change_set

        def refused(self: CloudFormationBackend, *arguments: Any, **named: Any) -> None:
            executed.append(1)
            if len(executed) != number:
                execute(self, *arguments, **named)
                return
            stack = kept()
            stack._add_stack_event("UPDATE_FAILED", resource_status_reason="The deployment has failed")
            stack.status = "UPDATE_ROLLBACK_COMPLETE"

        monkeypatch.setattr(CloudFormationBackend, "execute_change_set", refused)

    return at


def test_an_update_that_goes_back_is_a_failure_with_its_reason(create, rotate: Run, going_back, capsys) -> None:
    create()
    before = parameters()
    going_back(1)
    assert rotate("redis-url", value=NEW_REDIS) == 1
    said = capsys.readouterr().err
    assert "former values" in said
    assert "The deployment has failed" in said
    assert parameters() == before


@pytest.mark.parametrize(
    ("number", "left"), [(1, [OLD_KEY]), (2, [OLD_KEY, NEW_KEY])], ids=["the first step", "the second"]
)
def test_a_secret_is_put_back_where_its_step_goes_back(create, rotate: Run, going_back, capsys, number, left) -> None:
    create("CookieSecret")
    going_back(number)
    assert rotate("cookie-keys", value=NEW_KEY) == 1
    assert keys_now() == left
    said = capsys.readouterr().err
    assert ("--promote" in said) is (number == 2)
    if number == 2:
        assert rotate("cookie-keys", "--promote") == 0
        assert keys_now() == [NEW_KEY, OLD_KEY]


@pytest.mark.parametrize("status", ["UPDATE_IN_PROGRESS", "ROLLBACK_FAILED"])
def test_a_stack_that_cannot_be_changed_now_is_left_alone(create, rotate: Run, capsys, status: str) -> None:
    stack = create()
    stack.status = status
    assert rotate("redis-url", value=NEW_REDIS) == 1
    assert status in capsys.readouterr().err
    assert parameters()["RedisUrl"] == OLD_REDIS


def test_a_stack_that_is_not_there_is_a_sentence(aws: None, rotate: Run, capsys) -> None:
    assert rotate("redis-url", value=NEW_REDIS) == 1
    assert rotate("cookie-keys") == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert all(line.startswith(("It was not done: ", "It was not finished: ")) for line in said)


@pytest.mark.parametrize(("silent", "code"), [(3, 0), (1000, 1)], ids=["for a while", "for good"])
def test_an_update_under_way_is_not_undone_because_aws_is_silent(
    create, rotate: Run, capsys, monkeypatch, silent: int, code: int
) -> None:
    """It goes on without us, and the functions come up with what the secret holds."""
    create("CookieSecret")
    monkeypatch.setattr(stack_module, "MOST_SILENT_POLLS", 4)
    execute, describe = CloudFormationBackend.execute_change_set, CloudFormationBackend.describe_stacks
    left = [0]

    def executed(self: CloudFormationBackend, *arguments: Any, **named: Any) -> None:
        execute(self, *arguments, **named)
        left[0] = silent

    def described(self: CloudFormationBackend, *arguments: Any, **named: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise ValidationError("voting-prod", "Rate exceeded")
        return describe(self, *arguments, **named)

    monkeypatch.setattr(CloudFormationBackend, "execute_change_set", executed)
    monkeypatch.setattr(CloudFormationBackend, "describe_stacks", described)
    assert rotate("cookie-keys", value=NEW_KEY) == code
    assert keys_now() == ([NEW_KEY, OLD_KEY] if code == 0 else [OLD_KEY, NEW_KEY])
    if code:
        assert "The update goes on" in capsys.readouterr().err


def test_an_environment_names_its_stack(create, rotate: Run, monkeypatch) -> None:
    create()
    monkeypatch.setattr(sys, "stdin", io.StringIO(NEW_REDIS))
    assert main(["rotate", "--env", "prod", "redis-url", "--from", "-"]) == 0
    assert parameters()["RedisUrl"] == NEW_REDIS
    assert main(["rotate", "--env", "nowhere", "cookie-keys"]) == 2


def test_without_a_terminal_nothing_is_asked(aws: None) -> None:
    command = [sys.executable, "-m", "votectl", "rotate", "--stack", "x", "redis-url"]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "--from" in done.stderr


def test_what_is_typed_is_not_shown() -> None:
    """At a real terminal; the two answers differ, so nothing is done."""
    command = [sys.executable, "-m", "votectl", "rotate", "--stack", "x", "redis-url"]
    ours, theirs = pty.openpty()
    env: Mapping[str, str] = os.environ
    process = subprocess.Popen(
        command, cwd=ROOT, env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    shown = b""
    for answer, question in (
        (b"redis://u:first-secret@x\n", b"shown): "),
        (b"redis://u:second-secret@x\n", b"Again: "),
    ):
        while question not in shown:
            shown += os.read(ours, 1024)
        os.write(ours, answer)
    while b"not the same" not in shown:
        shown += os.read(ours, 1024)
    assert process.wait(30) == 1
    os.close(ours)
    assert b"secret" not in shown
