"""`votectl account` against AWS's APIs as moto has them, and as AWS documents those that moto lacks.

Covers checks, look, identity, stack, quotas, gateway, plan, environment, findings and aws_account.
"""

import json
from collections.abc import Callable, Iterator

import pytest
import yaml

from tests.aws_front import Answer, AwsFront, as_json, as_xml
from tests.conftest import ROOT
from votectl.__main__ import main
from votectl.account.checks import Check
from votectl.account.gateway import domains, log_role, throttle
from votectl.account.identity import identity, region
from votectl.account.look import Look, effective
from votectl.account.plan import free_plan, service_roles
from votectl.account.quotas import RESERVED, addresses, cache_nodes, concurrency, databases, networks
from votectl.account.stack import left_logs, left_secrets, protection, state
from votectl.aws_account import AwsAccount, Unanswered
from votectl.deployed_stack import OF_EVERY_VERSION, find_stack
from votectl.environment import defaults, overrides, read_environment
from votectl.findings import Finding

SETTINGS = "lambda:GET /2016-08-19/account-settings"
PLAN = "freetier:GetAccountPlanState"


def executions(total: int) -> Answer:
    return as_json({"AccountLimit": {"ConcurrentExecutions": total, "UnreservedConcurrentExecutions": total}})


def plan(kind: str, status: str = "ACTIVE") -> Answer:
    return as_json({"accountId": "123456789012", "accountPlanType": kind, "accountPlanStatus": status})


def instances(used: int, most: int) -> Answer:
    quota = f"<AccountQuotaName>DBInstances</AccountQuotaName><Used>{used}</Used><Max>{most}</Max>"
    result = f"<AccountQuotas><AccountQuota>{quota}</AccountQuota></AccountQuotas>"
    name = "DescribeAccountAttributes"
    return as_xml(f"<{name}Response><{name}Result>{result}</{name}Result></{name}Response>")


@pytest.fixture
def aws(empty_account: AwsFront) -> AwsFront:
    """An account as it should be."""
    front = empty_account
    front.answer(SETTINGS, executions(1000))
    front.answer(PLAN, plan("PAID"))
    front.answer("rds:DescribeAccountAttributes", instances(0, 40))
    return front


Run = Callable[..., tuple[int, str]]
Checked = Callable[..., list[Finding]]


@pytest.fixture
def run(aws: AwsFront, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command: its exit code and what it prints."""

    def run(*arguments: str) -> tuple[int, str]:
        code = main(["account", *arguments])
        return code, capsys.readouterr().out

    return run


@pytest.fixture(scope="module")
def account(front: AwsFront) -> Iterator[AwsAccount]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", front.url)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        yield AwsAccount("eu-central-1", None)


@pytest.fixture
def checked(aws: AwsFront, account: AwsAccount, monkeypatch: pytest.MonkeyPatch) -> Checked:
    """What one check finds, with these parameters on top of the environment's."""

    def checked(check: Check, environment: str = "dev", **parameters: str) -> list[Finding]:
        read = read_environment(environment)
        stack = find_stack(account, read.stack)
        return list(check(Look(account, read.stack, stack, effective(defaults(), stack, read.given | parameters))))

    return checked


def levels(findings: list[Finding]) -> list[str]:
    return [finding.level for finding in findings]


def line(text: str, words: str) -> str:
    """The only line of *text* that holds *words*."""
    (found,) = [one for one in text.splitlines() if words in one]
    return found


# ---------------------------------------------------------------- The command


def test_a_ready_account_is_ok_and_nothing_in_it_is_changed(run: Run, aws: AwsFront) -> None:
    code, text = run()
    assert (code, text.splitlines()[-1].partition(",")[0]) == (0, "0 problems")
    assert line(text, "credentials of ").endswith("in account 123456789012")
    assert line(text, "no stack voting-dev yet").startswith("ok")
    operations = {name.partition(":")[2] for name in aws.calls}
    assert len(operations) > 10
    assert [one for one in operations if not one.startswith(("GET ", "Get", "Describe", "List"))] == []


def test_a_problem_is_exit_code_1_in_json_too(run: Run) -> None:
    code, text = run("--json", "--parameters", "ProtectDatabase=true")
    findings = json.loads(text)["findings"]
    assert code == 1
    assert {tuple(one) for one in findings} == {("level", "what", "todo")}
    (problem,) = [one for one in findings if one["level"] == "problem"]
    assert "ROLLBACK_FAILED" in problem["what"]
    # A parameter keeps its value in the stack, so an environment that does not set it must be told to.
    assert problem["todo"].partition("ProtectDatabase=false")[2].endswith("with ProtectDatabase=true")


def test_existing_stores_need_no_network_and_no_stores(run: Run) -> None:
    code, text = run("--env", "prod", "--parameters", "RedisUrl=rediss://:a@b/0", "Egress=nat")
    assert code == 0
    for word in ("VPC", "RDS", "Elastic", "ProtectDatabase", "AWSServiceRole"):
        assert word not in text


def test_each_missing_permission_is_a_line_that_names_it(run: Run, aws: AwsFront) -> None:
    needed = ("--parameters", "WebSocketAccessLogs=true", "Egress=nat", "DomainName=vote.example.org")
    run(*needed)
    aws.deny(*{*aws.calls} - {"sts:GetCallerIdentity", "cloudformation:DescribeStacks"})
    code, text = run(*needed)
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


def test_without_a_look_at_stacks_nothing_can_be_deployed(run: Run, aws: AwsFront) -> None:
    aws.deny("cloudformation:DescribeStacks")
    code, text = run()
    assert code == 1
    assert "the permission cloudformation:DescribeStacks is missing" in line(text, "PROBLEM")


def test_endpoints_that_hang_cost_a_line_each(run: Run, aws: AwsFront) -> None:
    aws.hangs |= {SETTINGS, "ec2:DescribeVpcs", "rds:DescribeAccountAttributes"}
    code, text = run()
    assert code == 0
    assert text.count("not checked: Read timeout") == 3
    assert line(text, "API Gateway lets").startswith("ok")


def test_no_network(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    code, text = run()
    assert code == 1
    assert "127.0.0.1:1" in line(text, "PROBLEM  no access to AWS")


PAGES = {
    "no XML": (500, "text/html", b"<!doctype html>\n<title>Down</title>"),
    "XML": (200, "text/html", b"<html><body>Log in to this network</body></html>"),
    "nothing": (200, "text/html", b""),
    "text with 403": (403, "text/plain", b"blocked"),
}


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_a_page_of_somebody_in_between_is_no_answer(aws: AwsFront, account: AwsAccount, page: Answer) -> None:
    aws.answer("sts:GetCallerIdentity", page)
    aws.answer("cloudformation:DescribeStacks", page)
    with pytest.raises(Unanswered):
        identity(account)
    with pytest.raises(Unanswered):
        find_stack(account, "voting-dev")


@pytest.mark.parametrize("page", [PAGES["no XML"], PAGES["XML"]])
def test_pages_in_place_of_answers_stop_no_other_check(run: Run, aws: AwsFront, page: Answer) -> None:
    for call in (SETTINGS, PLAN, "rds:DescribeAccountAttributes", "ec2:DescribeRegions", "apigateway:GET /account"):
        aws.answer(call, page)
    code, text = run()
    assert code == 0
    assert text.count(" not checked: ") == 5
    assert line(text, "log groups").startswith("ok")


def sts_refusal(code: str) -> Answer:
    error = f"<Error><Code>{code}</Code><Message>It is {code}.</Message></Error>"
    return as_xml(f"<ErrorResponse>{error}</ErrorResponse>", 403)


def test_credentials_that_aws_refuses_end_the_look(run: Run, aws: AwsFront) -> None:
    aws.answer("sts:GetCallerIdentity", sts_refusal("ExpiredToken"))
    code, text = run()
    assert (code, len(text.splitlines())) == (1, 3)
    assert "ExpiredToken" in line(text, "PROBLEM  no access to AWS")


@pytest.mark.parametrize("code", ["InvalidClientTokenId", "SignatureDoesNotMatch"])
def test_credentials_that_aws_refuses_are_told_by_its_code(aws: AwsFront, account: AwsAccount, code: str) -> None:
    aws.answer("sts:GetCallerIdentity", sts_refusal(code))
    with pytest.raises(Unanswered, match=code):
        identity(account)


def test_no_credentials_at_all(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    code, text = run()
    assert code == 1
    assert "Unable to locate credentials" in line(text, "PROBLEM")


def test_a_region_that_is_not_enabled_ends_the_look(run: Run, aws: AwsFront) -> None:
    aws.answer("ec2:DescribeRegions", regions("eu-central-1", "not-opted-in"))
    code, text = run()
    assert (code, len(text.splitlines())) == (1, 4)
    assert "enable-region --region-name eu-central-1" in text
    assert aws.calls == ["sts:GetCallerIdentity", "ec2:DescribeRegions"]


def test_a_region_that_no_partition_has(run: Run) -> None:
    code, text = run("--region", "mars")
    assert code == 1
    assert "Unknown region: 'mars'" in line(text, "PROBLEM")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("[dev.deploy.parameters]\nstack_name = 'x'\n", "samconfig.toml has no environment test"),
        ("[test.deploy.parameters]\n", "samconfig.toml has no environment test with a stack_name"),
        ("[test", "samconfig.toml, environment test: "),
        (
            "[test.deploy.parameters]\nstack_name = 'x'\nparameter_overrides = 'OptionA=\"Green'\n",
            "No closing quotation",
        ),
        (None, "samconfig.toml: No such file or directory"),
    ],
)
def test_what_cannot_be_read_is_usage(aws, capsys, monkeypatch, tmp_path, config: str | None, words: str) -> None:
    monkeypatch.chdir(tmp_path)
    if config is not None:
        (tmp_path / "samconfig.toml").write_text(config, encoding="utf-8")
    assert main(["account", "--env", "test"]) == 2
    assert words in capsys.readouterr().err
    assert aws.calls == []


def test_parameters_in_both_of_sams_formats() -> None:
    wanted = {"OptionA": 'Green "Tea"', "RedisUrl": "", "SubnetIds": "a,b"}
    assert overrides([r'OptionA="Green \"Tea\""', "RedisUrl=", "SubnetIds=a,b"]) == wanted
    assert overrides(r'OptionA="Green \"Tea\"" RedisUrl="" SubnetIds="a,b"') == wanted
    assert overrides(wanted) == wanted
    assert overrides(["RedisUrl=redis://:it's@x", "OptionA=a b"]) == {"RedisUrl": "redis://:it's@x", "OptionA": "a b"}


# ---------------------------------------------------------------- Region


def regions(name: str, status: str) -> Answer:
    item = f"<item><regionName>{name}</regionName><optInStatus>{status}</optInStatus></item>"
    return as_xml(f"<DescribeRegionsResponse><regionInfo>{item}</regionInfo></DescribeRegionsResponse>")


@pytest.mark.parametrize(
    ("name", "status", "level"),
    [
        ("eu-central-1", "opt-in-not-required", "ok"),
        ("eu-central-1", "opted-in", "ok"),
        ("eu-central-1", "not-opted-in", "problem"),
        ("eu-west-1", "opt-in-not-required", "problem"),  # and no eu-central-1
    ],
)
def test_a_region_that_is_enabled_or_not(aws: AwsFront, account: AwsAccount, name, status, level) -> None:
    aws.answer("ec2:DescribeRegions", regions(name, status))
    assert levels(list(region(account))) == [level]


# ---------------------------------------------------------------- Quotas


@pytest.mark.parametrize(("url", "made"), [("", True), ("none", True), ("redis://a", False)])
def test_stores_are_made_unless_there_are_some(checked: Checked, url: str, made: bool) -> None:
    assert bool(checked(networks, RedisUrl=url)) is made


@pytest.mark.parametrize(
    ("total", "reserve", "level"),
    [
        (10, "true", "problem"),
        (118, "true", "problem"),
        (119, "true", "ok"),
        (10, "false", "note"),
        (99, "false", "note"),
        (100, "false", "ok"),
    ],
)
def test_concurrency_that_is_too_low_to_reserve_or_to_serve(checked: Checked, aws, total, reserve, level) -> None:
    aws.answer(SETTINGS, executions(total))
    assert levels(checked(concurrency, ReserveConcurrency=reserve)) == [level]


class Tagged(yaml.SafeLoader):
    """Reads `!If [Reserve, 3, …]` as its list."""


Tagged.add_constructor("!If", lambda loader, node: loader.construct_sequence(node, deep=True))
Tagged.add_multi_constructor("!", lambda _loader, _tag, _node: None)


def test_what_is_reserved_is_what_the_template_reserves() -> None:
    resources = yaml.load((ROOT / "template.yaml").read_text(), Tagged)["Resources"]  # noqa: S506 - a SafeLoader
    found = {name: one["Properties"].get("ReservedConcurrentExecutions") for name, one in resources.items()}
    assert {name: one[1] for name, one in found.items() if one} == RESERVED


def fill_vpcs(aws: AwsFront) -> None:
    for _ in range(4):  # moto has the default one
        aws.client("ec2").create_vpc(CidrBlock="10.0.0.0/16")


def test_a_full_quota_of_networks(checked: Checked, aws: AwsFront) -> None:
    assert levels(checked(networks)) == ["ok"]
    fill_vpcs(aws)
    (found,) = checked(networks)
    assert (found.level, found.what) == ("problem", "VPCs: 5 of 5, and 1 more to be made")
    assert "--service-code vpc --quota-code L-F678F1CE" in found.todo


def test_a_full_quota_of_addresses_matters_to_a_nat_gateway_only(checked: Checked, aws: AwsFront) -> None:
    for _ in range(5):
        aws.client("ec2").allocate_address(Domain="vpc")
    assert levels(checked(addresses, Egress="nat")) == ["problem"]
    assert checked(addresses, Egress="ipv6") == []


@pytest.mark.parametrize(("used", "level"), [(41, "problem"), (40, "problem"), (39, "ok")])
def test_a_full_quota_of_databases(checked: Checked, aws: AwsFront, used: int, level: str) -> None:
    aws.answer("rds:DescribeAccountAttributes", instances(used, 40))
    assert levels(checked(databases)) == [level]


@pytest.mark.parametrize(("nodes", "level"), [("3", "problem"), ("2", "ok")])
def test_a_quota_that_the_account_has_of_its_own(checked: Checked, aws: AwsFront, nodes: str, level: str) -> None:
    aws.answer("servicequotas:GetServiceQuota", as_json({"Quota": {"Value": 2.0}}))
    (found,) = checked(cache_nodes, CacheNodes=nodes)
    assert found.level == level
    assert found.what.startswith("ElastiCache nodes: 0 of 2,")


def test_a_quota_that_may_not_be_read_has_its_default(checked: Checked, aws: AwsFront) -> None:
    aws.deny("servicequotas:GetServiceQuota")
    (found,) = checked(networks)
    assert "VPCs: 1 of 5 by default (the account's own needs servicequotas:GetServiceQuota)" in found.what


# ---------------------------------------------------------------- Plan and roles


@pytest.mark.parametrize(
    ("environment", "kind", "status", "expected"),
    [
        ("prod", "FREE", "ACTIVE", [("problem", "class db.t4g.medium"), ("problem", "14 days of backups")]),
        ("dev", "FREE", "ACTIVE", [("note", "credits")]),
        ("dev", "FREE", "NOT_STARTED", [("note", "credits")]),
        ("dev", "FREE", "EXPIRED", [("problem", "has expired")]),
        ("prod", "PAID", "ACTIVE", [("ok", "paid")]),
    ],
)
def test_a_free_plan_refuses_larger_databases(checked: Checked, aws, environment, kind, status, expected) -> None:
    aws.answer(PLAN, plan(kind, status))
    found = checked(free_plan, environment)
    assert levels(found) == [level for level, _ in expected]
    assert all(words in one.what for one, (_, words) in zip(found, expected, strict=True))


def test_an_account_without_a_plan_is_an_older_one(checked: Checked, aws: AwsFront) -> None:
    aws.answer(PLAN, as_json({"__type": "ResourceNotFoundException", "message": "None."}, 400))
    assert levels(checked(free_plan)) == ["ok"]


def test_another_failure_of_that_question_is_none(checked: Checked, aws: AwsFront) -> None:
    aws.answer(PLAN, as_json({"__type": "ValidationException", "message": "No."}, 400))
    with pytest.raises(Unanswered, match="ValidationException"):
        checked(free_plan)


def test_service_linked_roles(checked: Checked, aws: AwsFront) -> None:
    assert levels(checked(service_roles)) == ["note", "note"]
    for name in ("AWSServiceRoleForElastiCache", "AWSServiceRoleForRDS"):  # moto spells one of them otherwise
        aws.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument="{}")
    assert levels(checked(service_roles)) == ["ok", "ok"]
    assert levels(checked(service_roles, DomainName="vote.example.org")) == ["ok", "ok", "note"]


# ---------------------------------------------------------------- API Gateway


def gateway(rate: int, role: str | None = None) -> Answer:
    settings = {"throttleSettings": {"rateLimit": rate, "burstLimit": 5000}}
    return as_json(settings | ({"cloudwatchRoleArn": role} if role else {}))


@pytest.mark.parametrize(
    ("logs", "makes", "role", "expected"),
    [
        ("true", "false", None, ["problem"]),
        ("true", "true", None, ["ok"]),
        ("true", "false", "arn:aws:iam::1:role/other", ["ok"]),
        ("true", "true", "arn:aws:iam::1:role/other", ["note"]),
        ("false", "false", None, []),
    ],
)
def test_websocket_logs_need_the_accounts_role(checked: Checked, aws: AwsFront, logs, makes, role, expected) -> None:
    aws.answer("apigateway:GET /account", gateway(10000, role))
    assert levels(checked(log_role, WebSocketAccessLogs=logs, ApiGatewayAccountRole=makes)) == expected


@pytest.mark.parametrize(("rate", "level"), [(2500, "note"), (7999, "note"), (8000, "ok")])
def test_a_throttle_below_what_the_stack_lets_through(checked: Checked, aws: AwsFront, rate: int, level: str) -> None:
    aws.answer("apigateway:GET /account", gateway(rate))
    assert levels(checked(throttle)) == [level]


def test_a_domain_name_of_another_stack(checked: Checked, aws: AwsFront) -> None:
    aws.client("apigatewayv2").create_domain_name(DomainName="vote.example.org")
    (found,) = checked(domains, DomainName="vote.example.org", LiveDomainName="live.example.org")
    assert (found.level, found.what) == ("problem", "API Gateway has the domain name vote.example.org already")
    assert levels(checked(domains, DomainName="other.example.org")) == ["ok"]
    assert checked(domains) == []


@pytest.mark.parametrize("page", [1, 2, 3])
def test_a_domain_name_is_found_on_any_page(checked: Checked, aws: AwsFront, page: int) -> None:
    path = "apigateway:GET /v2/domainnames"
    for at in (1, 2, 3):
        found = {"items": [{"domainName": "vote.example.org" if at == page else f"{at}.example.org"}]}
        aws.answer(
            f"{path}?nextToken={at}" if at > 1 else path,
            as_json(found | ({"nextToken": f"{at + 1}"} if at < 3 else {})),
        )
    assert levels(checked(domains, DomainName="vote.example.org")) == ["problem"]


# ---------------------------------------------------------------- The stack, and what a former one left


def stack_in(status: str, **given: str) -> Answer:
    parameters = dict.fromkeys(OF_EVERY_VERSION, "") | given
    pairs = "".join(
        f"<member><ParameterKey>{name}</ParameterKey><ParameterValue>{value}</ParameterValue></member>"
        for name, value in parameters.items()
    )
    stack = (
        f"<StackName>voting-dev</StackName><StackId>arn:aws:cloudformation:eu-central-1:1:stack/voting-dev/0</StackId>"
        f"<StackStatus>{status}</StackStatus><CreationTime>2026-01-01T00:00:00Z</CreationTime>"
        f"<Parameters>{pairs}</Parameters>"
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
    answer = "ListStackResources"
    return as_xml(f"<{answer}Response><{answer}Result>{result}</{answer}Result></{answer}Response>")


@pytest.mark.parametrize(
    ("status", "todo"),
    [
        ("CREATE_FAILED", "votectl teardown --stack voting-dev"),
        ("ROLLBACK_COMPLETE", "votectl teardown --stack voting-dev"),
        ("ROLLBACK_FAILED", "--delete-data"),
        ("DELETE_FAILED", "votectl teardown --stack voting-dev"),
        ("UPDATE_FAILED", "rollback-stack --stack-name voting-dev"),
        ("UPDATE_ROLLBACK_FAILED", "continue-update-rollback --stack-name voting-dev"),
        ("IMPORT_ROLLBACK_FAILED", "its events name"),
        ("CREATE_IN_PROGRESS", "wait"),
        ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "wait"),
        ("DELETE_IN_PROGRESS", "wait"),
    ],
)
def test_a_stack_that_takes_no_update_is_a_problem_with_a_way_out(checked: Checked, aws, status, todo) -> None:
    aws.answer("cloudformation:DescribeStacks", stack_in(status))
    aws.answer("cloudformation:ListStackResources", resource("Database", "DELETE_FAILED", "is protected"))
    (found,) = checked(state)
    assert found.level == "problem"
    assert status in found.what
    assert todo in found.todo
    assert ("(Database: is protected)" in found.what) is not status.endswith("PROGRESS")


@pytest.mark.parametrize("parameters", [{}, {"OptionA": "x", "OptionB": "y"}])
def test_a_stack_of_another_project_is_not_deployed_over(checked: Checked, aws: AwsFront, parameters) -> None:
    """An update would delete all that it has."""
    declared = {name: {"Type": "String", "Default": value} for name, value in parameters.items()}
    body = json.dumps({"Parameters": declared, "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}})
    aws.client("cloudformation").create_stack(StackName="voting-dev", TemplateBody=body)
    (found,) = checked(state)
    assert found.level == "problem"
    assert "another project" in found.what
    assert "teardown" not in found.todo


@pytest.mark.parametrize("status", ["CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"])
def test_a_stack_that_stands_needs_no_further_network(checked: Checked, aws: AwsFront, status: str) -> None:
    aws.answer("cloudformation:DescribeStacks", stack_in(status))
    assert levels(checked(state)) == ["ok"]
    assert checked(networks) == checked(databases) == checked(cache_nodes) == []
    assert checked(protection, ProtectDatabase="true") == []


def test_parameters_that_the_stack_keeps_count(checked: Checked, aws: AwsFront) -> None:
    aws.answer(PLAN, plan("FREE"))
    aws.answer("cloudformation:DescribeStacks", stack_in("CREATE_COMPLETE", RedisUrl="****", VpcId="vpc-1"))
    assert "stores that exist already" in checked(free_plan)[0].what
    aws.answer("cloudformation:DescribeStacks", stack_in("CREATE_COMPLETE", RedisUrl="****", VpcId="vpc-00000000"))
    assert "credits pay" in checked(free_plan)[0].what


@pytest.mark.parametrize(
    ("length", "smoke", "problems"), [(44, "true", 0), (45, "true", 1), (128, "true", 1), (45, "false", 0)]
)
def test_a_name_that_leaves_no_room_for_a_functions(run: Run, length: int, smoke: str, problems: int) -> None:
    """Lambda would refuse the function's name only when the stores have been made."""
    code, text = run("--stack", "v" * length, "--json", "--parameters", f"SmokeTest={smoke}")
    found = [one for one in json.loads(text)["findings"] if "characters" in one["what"]]
    assert [code, *(one["level"] for one in found)] == [problems, *["problem"] * problems]


def test_a_log_group_in_the_way(checked: Checked, aws: AwsFront) -> None:
    aws.client("logs").create_log_group(logGroupName="/aws/lambda/voting-dev-2/vote")
    assert levels(checked(left_logs)) == ["ok"]
    aws.client("logs").create_log_group(logGroupName="/aws/lambda/voting-dev/vote")
    (found,) = checked(left_logs)
    assert found.level == "problem"
    assert found.what.endswith(" /aws/lambda/voting-dev/vote")


def test_a_secret_that_a_former_stack_left(checked: Checked, aws: AwsFront) -> None:
    for stack in ("voting-dev", "voting-dev-2"):
        tags = [{"Key": "aws:cloudformation:stack-name", "Value": stack}]
        aws.client("secretsmanager").create_secret(Name=f"CookieSecret-{stack}", SecretString="x", Tags=tags)
    (found,) = checked(left_secrets)
    assert found.level == "note"
    assert "left CookieSecret-voting-dev;" in found.what
    assert checked(left_secrets, CookieKeys="k" * 32) == []
