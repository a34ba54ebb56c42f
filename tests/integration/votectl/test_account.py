"""`votectl account` against AWS's APIs as moto has them, and as AWS documents those that moto lacks."""

import json
from collections.abc import Callable, Iterator

import boto3
import pytest
import yaml

from tests.aws_front import Answer, AwsFront, as_json, as_xml, aws_front, moto_server
from tests.conftest import ROOT
from votectl.__main__ import main
from votectl.account.quotas import RESERVED

SETTINGS = "lambda:GET /2016-08-19/account-settings"
PLAN = "freetier:GetAccountPlanState"


def concurrency(total: int) -> Answer:
    return as_json({"AccountLimit": {"ConcurrentExecutions": total, "UnreservedConcurrentExecutions": total}})


def plan(kind: str, status: str = "ACTIVE") -> Answer:
    return as_json({"accountId": "123456789012", "accountPlanType": kind, "accountPlanStatus": status})


def instances(used: int, most: int) -> Answer:
    quota = f"<AccountQuotaName>DBInstances</AccountQuotaName><Used>{used}</Used><Max>{most}</Max>"
    result = f"<AccountQuotas><AccountQuota>{quota}</AccountQuota></AccountQuotas>"
    name = "DescribeAccountAttributes"
    return as_xml(f"<{name}Response><{name}Result>{result}</{name}Result></{name}Response>")


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with moto_server() as url:
        yield url


@pytest.fixture
def aws(moto: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsFront]:
    """An account as it should be."""
    monkeypatch.chdir(ROOT)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with aws_front(moto) as front:
        monkeypatch.setenv("AWS_ENDPOINT_URL", front.url)
        front.answer(SETTINGS, concurrency(1000))
        front.answer(PLAN, plan("PAID"))
        front.answer("rds:DescribeAccountAttributes", instances(0, 40))
        yield front


Look = Callable[..., tuple[int, str]]


@pytest.fixture
def look(aws: AwsFront, capsys: pytest.CaptureFixture[str]) -> Look:
    def look(*arguments: str) -> tuple[int, str]:
        code = main(["account", *arguments])
        return code, capsys.readouterr().out

    return look


def line(text: str, words: str) -> str:
    """The only line of *text* that holds *words*."""
    (found,) = [one for one in text.splitlines() if words in one]
    return found


# ---------------------------------------------------------------- As it should be


def test_a_ready_account_is_ok_and_nothing_in_it_is_changed(look: Look, aws: AwsFront) -> None:
    code, text = look()
    assert (code, text.splitlines()[-1].partition(",")[0]) == (0, "0 problems")
    assert line(text, "credentials of ").endswith("in account 123456789012")
    assert line(text, "no stack voting-dev yet").startswith("ok")
    operations = {name.partition(":")[2] for name in aws.calls}
    assert len(operations) > 10
    assert [one for one in operations if not one.startswith(("GET ", "Get", "Describe", "List"))] == []


def test_json_has_the_same_findings(look: Look) -> None:
    code, text = look("--json", "--parameters", "ProtectDatabase=true")
    findings = json.loads(text)["findings"]
    assert code == 1
    assert {tuple(one) for one in findings} == {("level", "what", "todo")}
    (problem,) = [one for one in findings if one["level"] == "problem"]
    assert "ROLLBACK_FAILED" in problem["what"]
    assert "ProtectDatabase=false" in problem["todo"]


def test_existing_stores_need_no_network_and_no_stores(look: Look, aws: AwsFront) -> None:
    code, text = look("--env", "prod", "--parameters", "RedisUrl=rediss://:a@b/0", "Egress=nat")
    assert code == 0
    for word in ("VPC", "RDS", "Elastic", "ProtectDatabase", "AWSServiceRole"):
        assert word not in text


# ---------------------------------------------------------------- Quotas


@pytest.mark.parametrize(
    ("total", "reserve", "mark"),
    [
        (10, "true", "PROBLEM"),
        (118, "true", "PROBLEM"),
        (119, "true", "ok"),
        (10, "false", "note"),
        (99, "false", "note"),
    ],
)
def test_concurrency_that_is_too_low_to_reserve_or_to_serve(look: Look, aws: AwsFront, total, reserve, mark) -> None:
    aws.answer(SETTINGS, concurrency(total))
    code, text = look("--parameters", f"ReserveConcurrency={reserve}")
    assert line(text, " executions").startswith(mark)
    assert code == (1 if mark == "PROBLEM" else 0)


def test_what_is_reserved_is_what_the_template_reserves() -> None:
    resources = yaml.load((ROOT / "template.yaml").read_text(), Tagged)["Resources"]  # noqa: S506 - a SafeLoader
    found = {name: one["Properties"].get("ReservedConcurrentExecutions") for name, one in resources.items()}
    assert {name: one[1] for name, one in found.items() if one} == RESERVED


class Tagged(yaml.SafeLoader):
    """Reads `!If [Reserve, 3, …]` as its list."""


Tagged.add_constructor("!If", lambda loader, node: loader.construct_sequence(node, deep=True))
Tagged.add_multi_constructor("!", lambda _loader, _tag, _node: None)


def fill_vpcs() -> None:
    for _ in range(4):  # moto has the default one
        boto3.client("ec2", "eu-central-1").create_vpc(CidrBlock="10.0.0.0/16")


def fill_addresses() -> None:
    for _ in range(5):
        boto3.client("ec2", "eu-central-1").allocate_address(Domain="vpc")


def test_a_full_quota_of_networks(look: Look) -> None:
    fill_vpcs()
    code, text = look()
    assert code == 1
    assert line(text, "VPCs").startswith("PROBLEM  VPCs: 5 of 5")
    assert "--service-code vpc --quota-code L-F678F1CE" in text


@pytest.mark.parametrize(("egress", "expected"), [("nat", True), ("ipv6", False)])
def test_a_full_quota_of_addresses_matters_to_a_nat_gateway_only(look: Look, egress: str, expected: bool) -> None:
    fill_addresses()
    code, text = look("--parameters", f"Egress={egress}")
    assert ("PROBLEM  Elastic IPs: 5 of 5" in text) is expected
    assert code == int(expected)


@pytest.mark.parametrize(("used", "mark"), [(40, "PROBLEM"), (39, "ok")])
def test_a_full_quota_of_databases(look: Look, aws: AwsFront, used: int, mark: str) -> None:
    aws.answer("rds:DescribeAccountAttributes", instances(used, 40))
    assert line(look()[1], "RDS instances").startswith(mark)


@pytest.mark.parametrize(("nodes", "mark"), [(3, "PROBLEM"), (2, "ok")])
def test_a_quota_that_the_account_has_of_its_own(look: Look, aws: AwsFront, nodes: int, mark: str) -> None:
    aws.answer("servicequotas:GetServiceQuota", as_json({"Quota": {"Value": 2.0}}))
    text = look("--parameters", f"CacheNodes={nodes}")[1]
    assert line(text, "ElastiCache nodes").startswith(mark)
    assert "by default" not in text


# ---------------------------------------------------------------- Plan and roles


@pytest.mark.parametrize(
    ("environment", "kind", "status", "problems"),
    [
        ("prod", "FREE", "ACTIVE", ["class db.t4g.medium", "14 days of backups"]),
        ("dev", "FREE", "ACTIVE", []),
        ("dev", "FREE", "NOT_STARTED", []),
        ("dev", "FREE", "EXPIRED", ["has expired"]),
        ("prod", "PAID", "ACTIVE", []),
    ],
)
def test_a_free_plan_refuses_larger_databases(look: Look, aws: AwsFront, environment, kind, status, problems) -> None:
    aws.answer(PLAN, plan(kind, status))
    code, text = look("--env", environment, "--parameters", "ProtectDatabase=false")
    found = [one for one in text.splitlines() if one.startswith("PROBLEM")]
    assert len(found) == len(problems)
    assert all(words in one for words, one in zip(problems, found, strict=True))
    assert code == (1 if problems else 0)


def test_an_account_without_a_plan_is_an_older_one(look: Look, aws: AwsFront) -> None:
    aws.answer(PLAN, as_json({"__type": "ResourceNotFoundException", "message": "None."}, 400))
    assert line(look()[1], "older than account plans").startswith("ok")


def test_service_linked_roles_that_are_there(look: Look) -> None:
    iam = boto3.client("iam", "eu-central-1")
    for name in ("AWSServiceRoleForElastiCache", "AWSServiceRoleForRDS"):  # moto's own spelling differs
        iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
    assert "iam:CreateServiceLinkedRole" not in look()[1]


# ---------------------------------------------------------------- API Gateway


def test_websocket_logs_need_the_accounts_role(look: Look, aws: AwsFront) -> None:
    aws.answer("apigateway:GET /account", as_json({"throttleSettings": {"rateLimit": 10000, "burstLimit": 5000}}))
    code, text = look("--parameters", "WebSocketAccessLogs=true")
    assert code == 1
    assert "ApiGatewayAccountRole=true" in text
    assert look("--parameters", "WebSocketAccessLogs=true", "ApiGatewayAccountRole=true")[0] == 0


@pytest.mark.parametrize(("rate", "mark"), [(2500, "note"), (7999, "note"), (8000, "ok")])
def test_a_throttle_below_what_the_stack_lets_through(look: Look, aws: AwsFront, rate: int, mark: str) -> None:
    aws.answer("apigateway:GET /account", as_json({"throttleSettings": {"rateLimit": rate, "burstLimit": 5}}))
    code, text = look()
    assert line(text, "requests per second").startswith(mark)
    assert code == 0


def test_a_domain_name_of_another_stack(look: Look) -> None:
    boto3.client("apigatewayv2", "eu-central-1").create_domain_name(DomainName="vote.example.org")
    code, text = look("--parameters", "DomainName=vote.example.org", "LiveDomainName=live.example.org")
    assert code == 1
    assert line(text, "PROBLEM").endswith("the domain name vote.example.org already")
    assert look("--parameters", "DomainName=other.example.org")[0] == 0


# ---------------------------------------------------------------- The stack, and what a former one left


def stack_in(status: str, parameters: str = "") -> Answer:
    stack = (
        f"<StackName>voting-dev</StackName><StackId>arn:aws:cloudformation:eu-central-1:1:stack/voting-dev/0</StackId>"
        f"<StackStatus>{status}</StackStatus><CreationTime>2026-01-01T00:00:00Z</CreationTime>"
        f"<Parameters>{parameters}</Parameters>"
    )
    result = f"<DescribeStacksResult><Stacks><member>{stack}</member></Stacks></DescribeStacksResult>"
    return as_xml(f"<DescribeStacksResponse>{result}</DescribeStacksResponse>")


def resource(name: str, status: str, reason: str) -> Answer:
    member = (
        f"<LogicalResourceId>{name}</LogicalResourceId><ResourceType>AWS::RDS::DBInstance</ResourceType>"
        f"<ResourceStatus>{status}</ResourceStatus><ResourceStatusReason>{reason}</ResourceStatusReason>"
        f"<LastUpdatedTimestamp>2026-01-01T00:00:00Z</LastUpdatedTimestamp>"
    )
    result = f"<StackResourceSummaries><member>{member}</member></StackResourceSummaries>"
    name = "ListStackResources"
    return as_xml(f"<{name}Response><{name}Result>{result}</{name}Result></{name}Response>")


@pytest.mark.parametrize(
    ("status", "todo"),
    [
        ("CREATE_FAILED", "votectl teardown --stack voting-dev"),
        ("ROLLBACK_COMPLETE", "votectl teardown --stack voting-dev"),
        ("ROLLBACK_FAILED", "--delete-data"),
        ("DELETE_FAILED", "votectl teardown --stack voting-dev"),
        ("UPDATE_FAILED", "rollback-stack --stack-name voting-dev"),
        ("UPDATE_ROLLBACK_FAILED", "continue-update-rollback --stack-name voting-dev"),
        ("CREATE_IN_PROGRESS", "wait"),
        ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "wait"),
        ("DELETE_IN_PROGRESS", "wait"),
    ],
)
def test_a_stack_that_takes_no_update_is_a_problem_with_a_way_out(look: Look, aws: AwsFront, status, todo) -> None:
    aws.answer("cloudformation:DescribeStacks", stack_in(status))
    aws.answer("cloudformation:ListStackResources", resource("Database", "DELETE_FAILED", "is protected"))
    code, text = look()
    assert code == 1
    assert line(text, status).startswith("PROBLEM")
    assert todo in text
    assert ("(Database: is protected)" in text) is not status.endswith("PROGRESS")


@pytest.mark.parametrize("status", ["CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"])
def test_a_stack_that_stands_needs_no_further_network(look: Look, aws: AwsFront, status: str) -> None:
    fill_vpcs()
    aws.answer("cloudformation:DescribeStacks", stack_in(status))
    code, text = look("--parameters", "ProtectDatabase=true")
    assert code == 0
    assert line(text, status).startswith("ok")
    assert "VPCs" not in text


def test_parameters_that_the_stack_keeps_count(look: Look, aws: AwsFront) -> None:
    kept = "<member><ParameterKey>{}</ParameterKey><ParameterValue>{}</ParameterValue></member>"
    masked = kept.format("RedisUrl", "****")
    aws.answer(PLAN, plan("FREE"))
    aws.answer("cloudformation:DescribeStacks", stack_in("CREATE_COMPLETE", masked + kept.format("VpcId", "vpc-1")))
    assert line(look()[1], "with stores that exist already").startswith("ok")
    aws.answer(
        "cloudformation:DescribeStacks", stack_in("CREATE_COMPLETE", masked + kept.format("VpcId", "vpc-00000000"))
    )
    assert line(look()[1], "credits pay").startswith("note")


def test_a_log_group_in_the_way(look: Look) -> None:
    logs = boto3.client("logs", "eu-central-1")
    logs.create_log_group(logGroupName="/aws/lambda/voting-dev-2/vote")
    assert look()[0] == 0
    logs.create_log_group(logGroupName="/aws/lambda/voting-dev/vote")
    code, text = look()
    assert code == 1
    assert line(text, "log groups are there already").endswith(" /aws/lambda/voting-dev/vote")


def test_a_secret_that_a_former_stack_left(look: Look) -> None:
    manager = boto3.client("secretsmanager", "eu-central-1")
    for stack in ("voting-dev", "voting-dev-2"):
        tags = [{"Key": "aws:cloudformation:stack-name", "Value": stack}]
        manager.create_secret(Name=f"CookieSecret-{stack}-x", SecretString="x", Tags=tags)
    code, text = look()
    assert code == 0
    assert "former stack voting-dev left CookieSecret-voting-dev-x;" in line(text, "CookieSecret")


# ---------------------------------------------------------------- Permissions, credentials, regions, networks


def test_each_missing_permission_is_a_line_that_names_it(look: Look, aws: AwsFront) -> None:
    needed = ("WebSocketAccessLogs=true", "Egress=nat", "DomainName=vote.example.org")
    look("--parameters", *needed)
    aws.deny(*{*aws.calls} - {"sts:GetCallerIdentity", "cloudformation:DescribeStacks"})
    code, text = look("--parameters", *needed)
    assert code == 0
    for permission in (
        "ec2:DescribeRegions",
        "logs:DescribeLogGroups",
        "secretsmanager:ListSecrets",
        "freetier:GetAccountPlanState",
        "lambda:GetAccountSettings",
        "apigateway:GET on /account",
        "apigateway:GET on /domainnames",
        "ec2:DescribeVpcs",
        "ec2:DescribeAddresses",
        "rds:DescribeAccountAttributes",
        "elasticache:DescribeCacheClusters",
        "iam:GetRole",
    ):
        assert f"the permission {permission} is missing" in text
    assert "Traceback" not in text


def test_a_quota_that_may_not_be_read_has_its_default(look: Look, aws: AwsFront) -> None:
    aws.deny("servicequotas:GetServiceQuota")
    assert "VPCs: 1 of 5 by default (the account's own needs servicequotas:GetServiceQuota)" in look()[1]


def test_without_a_look_at_stacks_nothing_can_be_deployed(look: Look, aws: AwsFront) -> None:
    aws.deny("cloudformation:DescribeStacks")
    code, text = look()
    assert code == 1
    assert "the permission cloudformation:DescribeStacks is missing" in line(text, "PROBLEM")


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidClientTokenId", "SignatureDoesNotMatch"])
def test_credentials_that_aws_refuses(look: Look, aws: AwsFront, code: str) -> None:
    error = f"<Error><Code>{code}</Code><Message>It is {code}.</Message></Error>"
    aws.answer("sts:GetCallerIdentity", as_xml(f"<ErrorResponse>{error}</ErrorResponse>", 403))
    found, text = look()
    assert (found, len(text.splitlines())) == (1, 3)
    assert code in line(text, "PROBLEM  no access to AWS")


def test_no_credentials_at_all(look: Look, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    code, text = look()
    assert code == 1
    assert "Unable to locate credentials" in line(text, "PROBLEM")


@pytest.mark.parametrize(
    ("region", "words"),
    [
        ("eu-south-1", "the region eu-south-1 is not enabled"),
        ("eu-centrl-1", "AWS has no region eu-centrl-1"),
        ("mars", "Unknown region: 'mars'"),
    ],
)
def test_a_region_that_cannot_be_used(look: Look, aws: AwsFront, region: str, words: str) -> None:
    regions = [("eu-central-1", "opt-in-not-required"), ("eu-south-1", "not-opted-in")]
    items = "".join(f"<item><regionName>{a}</regionName><optInStatus>{b}</optInStatus></item>" for a, b in regions)
    name = "DescribeRegionsResponse"
    aws.answer("ec2:DescribeRegions", as_xml(f"<{name}><regionInfo>{items}</regionInfo></{name}>"))
    assert look()[0] == 0
    code, text = look("--region", region)
    assert code == 1
    assert words in line(text, "PROBLEM")


def test_no_network(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    code, text = look()
    assert code == 1
    assert "127.0.0.1:1" in line(text, "PROBLEM  no access to AWS")


def test_endpoints_that_hang_cost_a_line_each(look: Look, aws: AwsFront) -> None:
    aws.hangs = {SETTINGS, "ec2:DescribeVpcs", "rds:DescribeAccountAttributes"}
    code, text = look()
    assert code == 0
    assert text.count("not checked: Read timeout") == 3
    assert line(text, "API Gateway lets").startswith("ok")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--env", "test"], "samconfig.toml has no environment test"),
        (["--parameters", 'OptionA="Cats'], "No closing quotation"),
    ],
)
def test_what_cannot_be_read_is_usage(aws: AwsFront, capsys, arguments: list[str], words: str) -> None:
    assert main(["account", *arguments]) == 2
    assert words in capsys.readouterr().err
    assert aws.calls == []
