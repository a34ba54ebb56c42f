"""What `sam deploy` would hand to CloudFormation, looked at without an account.

`sam validate --lint` (in `make check`) proves that the template is well-formed as it is written. The tests here apply
SAM's transform on this machine, as that command does, and prove of the *result*, for every mode, that it is well-formed
too, and that what reviewers look for by hand is so. None of it proves that AWS would create it: no account was used.
"""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cfnlint.api import ManualArgs, lint
from samcli.cli.types import CfnParameterOverridesType

from local.template.intrinsics import parse
from tests.sam.expansion import (
    DOMAINS,
    EXISTING_STORES,
    LOGGED,
    NAT,
    NEW_STORES,
    REGION,
    TEMPLATE,
    Expansion,
    declared,
    expand,
    expansion,
    strings,
)
from tests.sam.values import broken_rules, refused
from votectl.account.stack import LONGEST_NAME
from votectl.cost import estimate
from votectl.cost.environment import counting_hours
from votectl.cost.prices import Prices, regions
from voting.ops import lifecycle_hook, ops_invocation, smoke
from voting.question import LONGEST_QUESTION
from voting.settings import InvalidSetting, Settings

ROOT = TEMPLATE.parent
BUDGET = {"MonthlyBudgetUSD": "40"}
MODES = {
    "new-stores": NEW_STORES,
    "new-stores-nat": NEW_STORES | NAT | DOMAINS,
    "existing-stores": EXISTING_STORES,
    "existing-stores-all": EXISTING_STORES | NAT | DOMAINS | LOGGED | BUDGET | {"ReserveConcurrency": "true"},
    "existing-stores-url": {
        **{name: value for name, value in EXISTING_STORES.items() if not name.startswith("Database")},
        "DatabaseUrl": "postgresql://user:password@old.example.org/postgres",
    },
}


@cache
def expanded(mode: str) -> Expansion:
    return expansion(MODES[mode])


OPEN = {"0.0.0.0/0", "::/0"}
SERVES_USERS = {"VoteFunction", "ResultFunction", "WsConnectFunction"}
SERVICES = {
    "VoteFunction": "vote",
    "WorkerFunction": "worker",
    "ResultFunction": "result",
    "WsConnectFunction": "ws_connect",
    "WsBroadcastFunction": "ws_broadcast",
    "OpsFunction": "ops",
    "InstallFunction": "install",
    "SmokeFunction": "smoke",
    "LiveSmokeFunction": "smoke",
}
# They talk to AWS's APIs alone, so they are in no network of ours, and are told no store's address.
OUTSIDE = {"InstallFunction", "SmokeFunction", "LiveSmokeFunction"}
# EC2 and X-Ray know no narrower resource for these; a deny takes EC2's away from the code in the functions.
UNBOUNDED = {
    "ec2:CreateNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:DeleteNetworkInterface",
    "ec2:AssignPrivateIpAddresses",
    "ec2:UnassignPrivateIpAddresses",
    "xray:PutTraceSegments",
    "xray:PutTelemetryRecords",
}


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def services(stack: Expansion) -> set[str]:
    """The functions of *stack*: with one login for all there is nothing to be prepared for."""
    return {name for name in SERVICES if name != "InstallFunction" or "OperatorLogin" in stack.resources}


@pytest.fixture
def stack(mode: str) -> Expansion:
    return expanded(mode)


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def variables(stack: Expansion, function: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = stack.properties(function)["Environment"]["Variables"]
    return found


def test_the_expanded_template_is_as_clean_as_the_written_one() -> None:
    found = {(match.rule.id, match.message) for match in lint(expand(), config=ManualArgs(regions=[REGION]))}
    assert found == set()


def break_a_reference(resources: dict[str, Any]) -> None:
    resources["AlarmTopic"]["Properties"]["KmsMasterKeyId"] = {"Fn::GetAtt": ["Keys", "Arn"]}


def misspell_a_property(resources: dict[str, Any]) -> None:
    resources["Cache"]["Properties"]["TransitEncryptionEnable"] = True


def run_in_a_circle(resources: dict[str, Any]) -> None:
    """What docs/decisions/0013-canary-alarms.md tells of: a canary that is called back by an alarm on its API."""
    resources["VoteErrors"]["Properties"]["AlarmDescription"] = {"Ref": "HttpApi"}


def test_the_linter_sees_what_is_wrong_with_an_expanded_template() -> None:
    document = parse(expand())
    for spoil in (break_a_reference, misspell_a_property, run_in_a_circle):
        spoil(document["Resources"])
    found = {match.rule.id for match in lint(json.dumps(document), config=ManualArgs(regions=[REGION]))}
    assert {"E1010", "E3002", "E3004"} <= found


def test_no_rule_of_the_linter_is_switched_off() -> None:
    assert "cfn-lint" not in TEMPLATE.read_text()


# ---------------------------------------------------------------- who may call what


def test_every_http_route_leads_to_a_function_that_admits_just_it(stack: Expansion) -> None:
    wanted = set()
    for path, methods in stack.properties("HttpApi")["Body"]["paths"].items():
        for method, operation in methods.items():
            uri = operation["x-amazon-apigateway-integration"]["uri"]
            (function,) = re.findall(r"\$\{(\w+)\.?\w*\}/invocations", " ".join(strings(uri)))
            route = "*" if path == "/$default" else method.upper() + path  # SAM admits all of the API for the rest
            wanted.add((function, "${__ApiId__}/${__Stage__}/" + route))
    prefix = "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:"
    granted = {
        (permission["FunctionName"]["Ref"], permission["SourceArn"]["Fn::Sub"][0].removeprefix(prefix))
        for permission in stack.of("AWS::Lambda::Permission").values()
        if isinstance(permission["SourceArn"]["Fn::Sub"], list)
    }
    assert granted == wanted
    assert len(wanted) == 11


def test_every_websocket_route_leads_to_an_alias_that_admits_just_it(stack: Expansion) -> None:
    keys = {route["RouteKey"] for route in stack.of("AWS::ApiGatewayV2::Route").values()}
    assert keys == {"$connect", "$disconnect", "$default"}
    prefix = "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${LiveApi.ApiId}/live/"
    granted = {
        (permission["FunctionName"]["Ref"], permission["SourceArn"]["Fn::Sub"])
        for permission in stack.of("AWS::Lambda::Permission").values()
        if isinstance(permission["SourceArn"]["Fn::Sub"], str)
    }
    assert granted == {("WsConnectFunctionAliaslive", prefix + key) for key in keys}
    for integration in stack.of("AWS::ApiGatewayV2::Integration").values():
        assert integration["IntegrationUri"]["Fn::Sub"][1] == {"FunctionArn": {"Ref": "WsConnectFunctionAliaslive"}}


def test_every_permission_names_its_caller(stack: Expansion) -> None:
    for permission in stack.of("AWS::Lambda::Permission").values():
        assert permission["Principal"] == "apigateway.amazonaws.com"
        assert permission["Action"] == "lambda:InvokeFunction"


def test_nobody_opens_a_connection_from_outside(stack: Expansion) -> None:
    rules = list(stack.of("AWS::EC2::SecurityGroupIngress").values())
    for group in stack.of("AWS::EC2::SecurityGroup").values():
        rules += group.get("SecurityGroupIngress", [])
    assert not OPEN & set(strings(rules))
    admitted = {(rule["FromPort"], rule["ToPort"], rule["SourceSecurityGroupId"]["Ref"]) for rule in rules}
    has_stores = "Cache" in stack.resources
    assert admitted == ({(port, port, "FunctionSecurityGroup") for port in (6379, 5432)} if has_stores else set())


def test_functions_reach_the_stores_and_the_apis_of_aws_and_nothing_else(stack: Expansion) -> None:
    (everywhere,) = stack.properties("FunctionSecurityGroup")["SecurityGroupEgress"]
    assert (everywhere["FromPort"], everywhere["ToPort"], everywhere["IpProtocol"]) == (443, 443, "tcp")
    further = stack.of("AWS::EC2::SecurityGroupEgress").values()
    ways = {(rule["FromPort"], rule["ToPort"], rule["DestinationSecurityGroupId"]["Ref"]) for rule in further}
    stores = {(6379, 6379, "CacheSecurityGroup"), (5432, 5432, "DatabaseSecurityGroup")}
    assert ways == (stores if "Cache" in stack.resources else set())
    for group in ("CacheSecurityGroup", "DatabaseSecurityGroup"):
        if group in stack.resources:
            assert not OPEN & set(strings(stack.properties(group)))


# ---------------------------------------------------------------- what functions may do


def statements(stack: Expansion) -> list[tuple[str, Mapping[str, Any]]]:
    found = []
    for name, policy in stack.of("AWS::IAM::ManagedPolicy").items():
        found += [(name, statement) for statement in policy["PolicyDocument"]["Statement"]]
    for name, role in stack.of("AWS::IAM::Role").items():
        for policy in role.get("Policies", []):
            found += [(name, statement) for statement in policy["PolicyDocument"]["Statement"]]
    return found


def test_no_policy_is_wider_than_its_service_allows(stack: Expansion) -> None:
    for where, statement in statements(stack):
        actions = set(as_list(statement["Action"]))
        if statement["Effect"] == "Deny":
            continue
        assert not [action for action in actions if "*" in action], where
        if statement["Resource"] == "*":
            assert actions <= UNBOUNDED, where
        elif "execute-api:ManageConnections" in actions:
            methods = {one["Fn::Sub"].rpartition(":${LiveApi}/live/")[2] for one in as_list(statement["Resource"])}
            assert methods == ({"POST/*", "DELETE/*"} if where == "WsConnectRole" else {"POST/*"})
        else:
            assert not [text for text in strings(statement["Resource"]) if "*" in text.removesuffix(":*")], where


def test_code_in_a_function_cannot_use_what_lambda_needs_of_ec2(stack: Expansion) -> None:
    (denial,) = [statement for _, statement in statements(stack) if statement["Effect"] == "Deny"]
    assert denial["Action"] == "ec2:*"
    assert denial["Resource"] == "*"
    assert "lambda:SourceFunctionArn" in denial["Condition"]["ArnLike"]


def test_every_function_has_a_role_of_its_own_with_no_policy_of_aws(stack: Expansion) -> None:
    roles = {name: function["Role"]["Fn::GetAtt"][0] for name, function in stack.of("AWS::Lambda::Function").items()}
    assert roles.keys() == services(stack)
    assert len(set(roles.values())) == len(roles)
    for role in roles.values():
        for policy in stack.properties(role)["ManagedPolicyArns"]:
            assert policy["Ref"] in stack.resources


MASTER = {
    "new-stores": {"Fn::GetAtt": ["Database", "MasterUserSecret.SecretArn"]},
    "existing-stores": {"Ref": "DatabaseSecretArn"},
}


def test_each_function_reads_the_secret_of_its_own_login_and_ops_all_of_them(stack: Expansion, mode: str) -> None:
    readable = {
        where: as_list(statement["Resource"])
        for where, statement in statements(stack)
        if statement["Action"] == "secretsmanager:GetSecretValue"
    }
    if mode == "existing-stores-url":
        assert readable == {}
        return
    worker, reader, operator = ({"Ref": f"{job}Login"} for job in ("Worker", "Reader", "Operator"))
    master = next(arn for name, arn in MASTER.items() if mode.startswith(name))
    assert readable == {
        "WorkerRole": [worker],
        "ResultRole": [reader],
        "WsConnectRole": [reader],
        "OpsRole": [master, worker, reader, operator],
    }
    assert variables(stack, "OpsFunction")["DATABASE_SECRET_ARN"] == operator
    assert variables(stack, "OpsFunction")["DATABASE_OWNER_SECRET_ARN"] == master


@pytest.mark.parametrize("mode", [name for name in MODES if name != "existing-stores-url"], indirect=True)
def test_no_function_changes_before_its_login_is_there(stack: Expansion) -> None:
    """It has the secret's name from the step that makes the login, and ops must have all that the step needs."""
    for function, attribute in (("Worker", "Worker"), ("Result", "Reader"), ("WsConnect", "Reader")):
        told = variables(stack, f"{function}Function")["DATABASE_SECRET_ARN"]
        assert told == {"Fn::GetAtt": ["Installation", f"{attribute}SecretArn"]}
    step = stack.properties("Installation")
    assert step["Attributes"] == {"WorkerSecretArn": {"Ref": "WorkerLogin"}, "ReaderSecretArn": {"Ref": "ReaderLogin"}}
    before = needed(stack, "Installation")
    assert {"InstallFunction", "OpsFunction", "InstallRole", "OpsRole", "WorkerLogin", "ReaderLogin"} <= before
    assert not {"WorkerFunction", "ResultFunction", "WsConnectFunction"} & before
    if "Database" in stack.resources:
        assert {"Database", "Cache", "FunctionsToDatabase", "FunctionsToCache", "FunctionRoutesA"} <= before
        assert {"EgressRoute", "NatRoute"} & before


def needed(stack: Expansion, name: str) -> set[str]:
    """What is made before the resource *name*, and perhaps more: each that is named in it, in whatever way."""
    found: set[str] = set()
    open_ = [name]
    while open_:
        words = {word for text in strings(stack.resources[open_.pop()]) for word in re.findall(r"\w+", text)}
        further = words & stack.resources.keys() - found
        found |= further
        open_ += further
    return found - {name}


def test_the_step_runs_again_with_each_package_and_release_and_fails_soon(stack: Expansion, mode: str) -> None:
    if mode == "existing-stores-url":
        assert "Installation" not in stack.resources
        return
    step = stack.properties("Installation")
    assert step["Release"] == {"Ref": "Release"}
    assert step["Package"]["Ref"] in stack.of("AWS::Lambda::LayerVersion")
    assert stack.properties("InstallFunction")["Timeout"] < step["ServiceTimeout"] <= 300
    asked_for_s = ops_invocation.TRY_AGAIN_FOR_S + ops_invocation.PAUSE_S + ops_invocation.ANSWER_TIMEOUT_S
    assert asked_for_s < stack.properties("InstallFunction")["Timeout"]
    # CloudFormation takes the answer from S3, which a network without IPv4 does not reach.
    assert "VpcConfig" not in stack.properties("InstallFunction")


def test_logins_of_two_stacks_on_one_server_have_names_of_their_own(stack: Expansion) -> None:
    for name, secret in stack.of("AWS::SecretsManager::Secret").items():
        if name.endswith("Login"):
            made = secret["GenerateSecretString"]
            text, given = made["SecretStringTemplate"]["Fn::Sub"]
            username = json.loads(text)["username"]
            assert "AWS::StackId" in json.dumps(given)
            assert len(username.replace("${Id}", 36 * "x")) <= 63, "PostgreSQL cuts longer names"
            assert made["ExcludePunctuation"] is True


def test_no_partition_is_taken_for_granted() -> None:
    text = re.sub(r"Default: arn:aws:\S*none\S*|arn:aws:\w+:none:\S+", "", TEMPLATE.read_text())
    assert "arn:aws:" not in text


# ---------------------------------------------------------------- what functions are told


def declared_settings() -> set[str]:
    """The names of all variables that voting/settings.py reads."""
    tree = ast.parse((ROOT / "layers/voting/voting/settings.py").read_text())
    names = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {name for name in names if re.fullmatch(r"[A-Z]+(_[A-Z]+)+|QUESTION|OPTIONS", name)}


DATABASE = {"DATABASE_HOST", "DATABASE_PORT", "DATABASE_NAME", "DATABASE_SECRET_ARN", "DATABASE_SSLROOTCERT"}
EVERYWHERE = {"REDIS_URL", "QUESTION", "OPTIONS", "OPTION_A", "OPTION_B"}
NEEDED = {
    "VoteFunction": {
        "COOKIE_KEYS",
        "ACCEPT_LEGACY_IDS",
        "ACCEPT_OLD_COOKIES",
        "ALLOWED_ORIGINS",
        "CONFIRM_BY_REPLICA",
        "MAX_BODY_BYTES",
    },
    "WorkerFunction": {
        "BATCH_VOTES",
        "BATCH_BYTES",
        "DEAD_LETTERS",
        "DEAD_LETTER_BYTES",
        "BROADCAST_FUNCTION",
        "BROADCAST_INTERVAL_MS",
        "BROADCAST_MESSAGES_PER_S",
    },
    "ResultFunction": {"CONFIRM_BY_REPLICA", "WEBSOCKET_URL"},
    "WsConnectFunction": {"ALLOWED_ORIGINS", "HTTP_URL", "WEBSOCKET_URL"},
    "WsBroadcastFunction": {"WEBSOCKET_URL"},
    "OpsFunction": {
        "ACCEPT_LEGACY_IDS",
        "CONFIRM_BY_REPLICA",
        "DATABASE_OWNER_SECRET_ARN",
        "DATABASE_WORKER_SECRET_ARN",
        "DATABASE_READER_SECRET_ARN",
    },
    "InstallFunction": {"OPS_FUNCTION"},
    "SmokeFunction": {"VOTE_VERSION", "RESULT_VERSION", "BROADCAST_FUNCTION"},
    "LiveSmokeFunction": {"WS_CONNECT_VERSION"},
}


def test_every_setting_is_given_to_somebody_or_comes_from_lambda() -> None:
    told = set.union(*NEEDED.values()) | EVERYWHERE | DATABASE | {"DATABASE_URL"}
    told.add("AWS_USE_DUALSTACK_ENDPOINT")  # see test_the_network_and_the_functions_agree_on_the_way_out
    assert declared_settings() - told == {"AWS_REGION", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}


@pytest.mark.parametrize("function", NEEDED)
def test_every_function_is_told_what_it_needs_and_no_more(stack: Expansion, mode: str, function: str) -> None:
    if function not in services(stack):
        return
    database = {"DATABASE_URL"} if mode == "existing-stores-url" else DATABASE
    wanted = NEEDED[function] | EVERYWHERE
    if function in OUTSIDE:
        wanted -= EVERYWHERE | database
    elif mode == "existing-stores-url":
        wanted = {name for name in wanted if not name.endswith("_SECRET_ARN")}
    if function not in {"VoteFunction", "WsBroadcastFunction"} | OUTSIDE:
        wanted |= database
    runtime = {name for name in variables(stack, function) if name.startswith(("POWERTOOLS_", "AWS_"))} | {"RELEASE"}
    assert set(variables(stack, function)) - runtime == wanted
    assert variables(stack, function)["POWERTOOLS_SERVICE_NAME"] == SERVICES[function]


def test_secrets_are_referred_to_and_the_environment_is_encrypted(stack: Expansion) -> None:
    for name, function in stack.of("AWS::Lambda::Function").items():
        assert function["KmsKeyArn"] == {"Fn::GetAtt": ["Key", "Arn"]}
        if "Cache" in stack.resources and name not in OUTSIDE:
            assert "{{resolve:secretsmanager:" in json.dumps(variables(stack, name)["REDIS_URL"])
    assert "{{resolve:secretsmanager:" in json.dumps(variables(stack, "VoteFunction")["COOKIE_KEYS"])


def versions(parameters: Mapping[str, str], **layer: str) -> set[str]:
    found = set(expansion(parameters, **layer).of("AWS::Lambda::Version"))
    assert len(found) == len(SERVES_USERS)
    return found


def test_a_new_release_makes_new_versions_of_what_serves_users() -> None:
    assert not versions(NEW_STORES | {"Release": "1795346003"}) & versions(NEW_STORES | {"Release": "1795346004"})


def test_a_changed_package_makes_new_versions_although_the_functions_code_is_the_same() -> None:
    assert not versions(NEW_STORES) & versions(NEW_STORES, ContentUri="s3://bucket/another")


def test_changed_parameters_alone_make_no_new_version_hence_make_deploy_names_a_release() -> None:
    assert versions(NEW_STORES) == versions(NEW_STORES | {"OptionA": "Tea"})


def test_metrics_of_two_stacks_do_not_mix(stack: Expansion) -> None:
    ours = {"Fn::Sub": "Voting/${AWS::StackName}"}
    for function in services(stack):
        assert variables(stack, function)["POWERTOOLS_METRICS_NAMESPACE"] == ours
    for alarm in stack.of("AWS::CloudWatch::Alarm").values():
        for metric in [alarm, *(query.get("MetricStat", {}).get("Metric", {}) for query in alarm.get("Metrics", []))]:
            assert metric.get("Namespace", "AWS/").startswith("AWS/") if metric.get("Namespace") != ours else True


NAMES = {
    *("AlarmName", "AliasName", "DashboardName", "DBInstanceIdentifier", "FunctionName", "LayerName", "LogGroupName"),
    *("Name", "QueueName", "ReplicationGroupId", "RoleName", "TopicName", "UserGroupId", "UserId"),
}
WITHIN_A_FUNCTION = {f"AWS::Lambda::{kind}" for kind in ("Alias", "Version", "Permission", "EventInvokeConfig")}


def test_what_has_a_name_has_the_stacks_name_in_it_so_that_two_stacks_stand_side_by_side(stack: Expansion) -> None:
    for name, one in stack.resources.items():
        for key in NAMES & one.get("Properties", {}).keys() if one["Type"] not in WITHIN_A_FUNCTION else ():
            refers = one["Properties"][key] in [{"Ref": other} for other in stack.resources]
            assert refers or "AWS::Stack" in json.dumps(one["Properties"][key]), (name, key)


@pytest.mark.parametrize("egress", ["ipv6", "nat"])
def test_the_network_and_the_functions_agree_on_the_way_out(egress: str) -> None:
    stack = expansion(NEW_STORES | {"Egress": egress})
    over_ipv6 = egress == "ipv6"
    assert bool(stack.of("AWS::EC2::EgressOnlyInternetGateway")) is over_ipv6
    assert bool(stack.of("AWS::EC2::NatGateway")) is not over_ipv6
    assert bool(stack.of("AWS::EC2::InternetGateway")) is not over_ipv6
    for name, function in stack.of("AWS::Lambda::Function").items():
        if name not in OUTSIDE:
            assert function["VpcConfig"]["Ipv6AllowedForDualStack"] is over_ipv6
        if "Smoke" not in name:
            assert variables(stack, name)["AWS_USE_DUALSTACK_ENDPOINT"] == str(over_ipv6).lower()
    assert stack.properties("LiveApi")["IpAddressType"] == "dualstack"


# ---------------------------------------------------------------- what is kept


def test_the_stores_are_encrypted_backed_up_and_kept_as_snapshots() -> None:
    stack = expanded("new-stores")
    for store in ("Cache", "Database"):
        assert stack.resources[store]["DeletionPolicy"] == "Snapshot"
        assert stack.resources[store]["UpdateReplacePolicy"] == "Snapshot"
    cache, database = stack.properties("Cache"), stack.properties("Database")
    assert cache["AtRestEncryptionEnabled"] is cache["TransitEncryptionEnabled"] is True
    assert cache["TransitEncryptionMode"] == "required"
    assert cache["SnapshotRetentionLimit"] == {"Ref": "BackupDays"}
    assert stack.properties("CacheParameters")["Properties"] == {"maxmemory-policy": "noeviction"}
    assert database["StorageEncrypted"] is True
    assert database["PubliclyAccessible"] is False
    assert database["ManageMasterUserPassword"] is True
    assert database["BackupRetentionPeriod"] == {"Ref": "BackupDays"}
    assert database["DeletionProtection"] == {"Ref": "ProtectDatabase"}
    assert stack.properties("DatabaseParameters")["Parameters"]["rds.force_ssl"] == "1"


# Of what is kept when the stack goes, this is all that a first deployment leaves behind when it is rolled back: final
# snapshots, a role that costs nothing, the account's setting that names it, and versions, which go with their function.
KEPT_BY_A_ROLLBACK = {
    "AWS::RDS::DBInstance": "Snapshot",
    "AWS::ElastiCache::ReplicationGroup": "Snapshot",
    "AWS::IAM::Role": "Retain",
    "AWS::ApiGateway::Account": "Retain",
    "AWS::Lambda::Version": "Retain",
}


@pytest.mark.parametrize("mode", MODES, indirect=True)
def test_a_rolled_back_first_deployment_keeps_no_secret_and_no_log_group(stack: Expansion) -> None:
    policies = {name: one["DeletionPolicy"] for name, one in stack.resources.items() if "DeletionPolicy" in one}
    kinds = {name: stack.resources[name]["Type"] for name in policies}
    kept = {name: policy for name, policy in policies.items() if policy not in {"Delete", "RetainExceptOnCreate"}}
    assert kept == {name: KEPT_BY_A_ROLLBACK.get(kinds[name]) for name in kept}
    secrets = [name for name, one in stack.resources.items() if one["Type"] == "AWS::SecretsManager::Secret"]
    assert {name for name in secrets if name in policies} == {"CookieSecret"} & {*secrets}
    if "CookieSecret" in secrets:
        assert policies["CookieSecret"] == "RetainExceptOnCreate"
        assert stack.resources["CookieSecret"]["UpdateReplacePolicy"] == "Retain"


@pytest.mark.parametrize("mode", [name for name in MODES if name.startswith("existing")], indirect=True)
def test_with_existing_stores_none_are_made_and_no_network(stack: Expansion) -> None:
    kinds = {one["Type"] for one in stack.resources.values()}
    assert not [kind for kind in kinds if kind.startswith(("AWS::RDS::", "AWS::ElastiCache::"))]
    assert [kind for kind in kinds if kind.startswith("AWS::EC2::")] == ["AWS::EC2::SecurityGroup"]


def test_queue_topic_and_secrets_are_encrypted_and_logs_expire(stack: Expansion) -> None:
    assert stack.properties("Failures")["SqsManagedSseEnabled"] is True
    # CloudWatch may not publish under the key alias/aws/sns, and says nothing when it cannot.
    assert stack.properties("AlarmTopic")["KmsMasterKeyId"] == {"Fn::GetAtt": ["Key", "Arn"]}
    for group in stack.of("AWS::Logs::LogGroup").values():
        assert group["RetentionInDays"] == {"Ref": "LogRetentionDays"}


def test_the_logs_that_rds_makes_expire_too() -> None:
    stack = expanded("new-stores")
    exported = stack.properties("Database")["EnableCloudwatchLogsExports"]
    kept = stack.properties("DatabaseLogs")
    assert kept["Days"] == {"Ref": "LogRetentionDays"}
    assert kept["LogGroups"] == [{"Fn::Sub": f"/aws/rds/instance/${{Database}}/{name}"} for name in exported]
    (allowed,) = [one for where, one in statements(stack) if "logs:PutRetentionPolicy" in as_list(one["Action"])]
    arns = {text.rpartition(":log-group:")[2].removesuffix(":*") for text in strings(allowed["Resource"])}
    assert arns - {"Fn::Sub", ""} == {name["Fn::Sub"] for name in kept["LogGroups"]}


@pytest.mark.parametrize("zones", ["", "eu-central-1b,eu-central-1c"])
def test_the_network_lies_in_the_zones_that_one_names_or_in_the_first_two(zones: str) -> None:
    stack = expansion(NEW_STORES | NAT | {"AvailabilityZones": zones})
    zone = {"Fn::Split": [",", {"Ref": "AvailabilityZones"}]} if zones else {"Fn::GetAZs": ""}
    subnets = stack.of("AWS::EC2::Subnet")
    assert len(subnets) == 5
    for name, one in subnets.items():
        assert one["AvailabilityZone"] == {"Fn::Select": [1 if name.endswith("B") else 0, zone]}


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("", True),
        ("eu-central-1b,eu-central-1c", True),
        ("us-gov-west-1a,us-gov-west-1b", True),
        ("eu-central-1b", False),
        ("eu-central-1a,eu-central-1b,eu-central-1c", False),
        ("eu-central-1b, eu-central-1c", False),
    ],
)
def test_zones_are_two_or_none(text: str, fits: bool) -> None:
    pattern = declared()["Parameters"]["AvailabilityZones"]["AllowedPattern"]
    assert bool(re.fullmatch(pattern, text)) is fits


@pytest.mark.parametrize(
    "text",
    [
        *("", "Tea|Milk", " Tea | Milk|Water", "|".join(map(str, range(20))), "|".join(map(str, range(21)))),
        *("Tea", "|", "Tea|", "Tea||Milk", "Tea| |Milk", "🐈" * 100 + "|Milk", "m" * 101 + "|Tea", "Tea|" + "m" * 101),
        "|".join(f"{number} " + "m" * 97 for number in range(10, 30)),
    ],
)
def test_a_deployment_takes_the_options_that_the_functions_take(text: str) -> None:
    parameter = declared()["Parameters"]["Options"]
    try:
        assert Settings({"OPTIONS": text}).question
        is_right = True
    except InvalidSetting:
        is_right = False
    assert bool(re.fullmatch(parameter["AllowedPattern"], text)) is is_right


def test_a_deployment_takes_the_questions_that_the_functions_take() -> None:
    assert declared()["Parameters"]["Question"]["MaxLength"] == LONGEST_QUESTION


def test_the_stores_versions_belong_to_the_families_of_their_parameters() -> None:
    parameters, stack = declared()["Parameters"], expanded("new-stores")
    for store, name, family in (("Cache", "CacheVersion", "valkey"), ("Database", "DatabaseVersion", "postgres")):
        assert stack.properties(store)["EngineVersion"] == {"Ref": name}
        group = stack.properties(f"{store}Parameters")
        major = (group.get("CacheParameterGroupFamily") or group["Family"]).removeprefix(family)
        version, pattern = parameters[name]["Default"], parameters[name]["AllowedPattern"]
        assert re.fullmatch(pattern, version)
        assert version.split(".")[0] == major
        assert not re.fullmatch(pattern, f"{int(major) + 1}.0")


def test_every_function_logs_into_a_group_of_the_stack(stack: Expansion) -> None:
    groups = {function["LoggingConfig"]["LogGroup"]["Ref"] for function in stack.of("AWS::Lambda::Function").values()}
    assert len(groups) == len(services(stack))
    assert groups <= set(stack.of("AWS::Logs::LogGroup"))


# ---------------------------------------------------------------- how it fails, and who is told


def test_every_alarm_tells_somebody_when_it_goes_off_and_when_it_is_over(stack: Expansion) -> None:
    alarms = stack.of("AWS::CloudWatch::Alarm")
    assert len(alarms) >= 13
    for alarm in alarms.values():
        assert alarm["AlarmActions"] == alarm["OKActions"] == [{"Ref": "AlarmTopic"}]
        assert alarm["TreatMissingData"] in {"notBreaching", "breaching", "ignore"}
        assert alarm["AlarmDescription"]


WATCHED = {
    "VoteErrors",
    "VoteThrottles",
    "FunctionsThrottled",
    "ConcurrencyHigh",
    "HttpServerErrors",
    "HttpThrottled",
    "HttpBusy",
    "WorkerSilent",
    "WorkerFailing",
    "CountingStalled",
    "VotesDelayed",
    "QueueLong",
    "VotesParked",
    "DeadLettersFull",
    "InvocationsFailed",
    "ResultErrors",
    "WsConnectErrors",
    "LiveServerErrors",
    "LiveThrottled",
    "LiveBusy",
    "BroadcastErrors",
    "BroadcastFailures",
}
WATCHED_STORES = {
    "CacheMemoryHigh",
    "CacheEvictions",
    "CacheBusy",
    "CacheCreditsLow",
    "CacheReplicaLags",
    "DatabaseConnectionsHigh",
    "DatabaseStorageLow",
    "DatabaseBusy",
    "DatabaseCreditsLow",
}


def test_the_whole_flow_is_watched_and_every_alarm_stands_on_the_dashboard_and_in_the_guide(stack: Expansion) -> None:
    wanted = WATCHED | (WATCHED_STORES if "Cache" in stack.resources else set())
    wanted |= {"BroadcastsCostly"} if "MonthlyBudget" in stack.resources else set()
    assert stack.of("AWS::CloudWatch::Alarm").keys() == wanted
    (shown,) = [widget for widget in dashboard(stack)["widgets"] if widget["type"] == "alarm"]
    assert shown["properties"]["alarms"] == [f"${{{name}.Arn}}" for name in _in_order(wanted)]
    guide = (ROOT / "docs/guides/operate.md").read_text()
    assert {name for name in wanted if f"`{name}`" not in guide} == set()


def _in_order(names: set[str]) -> list[str]:
    """As they stand on the dashboard: along the flow, not by the alphabet."""
    body = json.dumps(dashboard(expansion(NEW_STORES | BUDGET)))
    return sorted(names, key=lambda name: body.index(f"${{{name}.Arn}}"))


def test_the_estimate_of_costs_reckons_with_the_alarms_and_keys_and_secrets_that_there_are() -> None:
    stack = expanded("new-stores")
    assert alarm_metrics(stack) == estimate.ALARM_METRICS
    single = expansion(NEW_STORES | {"CacheNodes": "1"})
    assert alarm_metrics(single) == estimate.ALARM_METRICS - estimate.SECOND_NODE_METRICS
    assert alarm_metrics(expansion(NEW_STORES | BUDGET)) == estimate.ALARM_METRICS + estimate.BUDGET_ALARM_METRICS
    assert len(stack.of("AWS::CloudWatch::Dashboard")) == estimate.DASHBOARDS
    assert len(stack.of("AWS::KMS::Key")) == estimate.KEYS
    managed = [one for one in stack.of("AWS::RDS::DBInstance").values() if one["ManageMasterUserPassword"]]
    assert len(stack.of("AWS::SecretsManager::Secret")) + len(managed) == estimate.SECRETS
    memory = {name: one["MemorySize"] for name, one in stack.of("AWS::Lambda::Function").items()}
    assert memory.pop("VoteFunction") == estimate.VOTE_MB
    assert set(memory.values()) == {estimate.FUNCTION_MB}


def alarm_metrics(stack: Expansion) -> int:
    """What CloudWatch bills: each metric under an alarm, and not the expressions."""
    alarms = stack.of("AWS::CloudWatch::Alarm").values()
    metrics = [[query for query in alarm.get("Metrics", []) if "MetricStat" in query] for alarm in alarms]
    return sum(len(queries) or 1 for queries in metrics)


# ---------------------------------------------------------------- what a person can bound


def test_the_few_alarms_are_those_of_lost_and_uncounted_votes_and_of_the_canaries() -> None:
    stack = expansion(NEW_STORES | BUDGET | {"Alarms": "few"})
    kept = stack.of("AWS::CloudWatch::Alarm")
    canaries = {
        alarm["Name"]["Ref"]
        for group in stack.of("AWS::CodeDeploy::DeploymentGroup").values()
        for alarm in group["AlarmConfiguration"]["Alarms"]
    }
    counting = {"CountingStalled", "VotesDelayed", "CacheMemoryHigh", "DatabaseStorageLow", "BroadcastsCostly"}
    assert kept.keys() == canaries | counting
    assert alarm_metrics(stack) == estimate.FEW_ALARM_METRICS + estimate.BUDGET_ALARM_METRICS
    assert stack.of("AWS::CloudWatch::Dashboard") == {}


def test_without_a_budget_there_is_nothing_of_it() -> None:
    stack = expanded("new-stores")
    assert not {"MonthlyBudget", "AlarmTopicPolicy", "BroadcastsCostly"} & stack.resources.keys()
    assert "budgets.amazonaws.com" not in json.dumps(stack.resources)


def test_a_budget_tells_the_alarm_topic_at_80_percent_and_when_more_than_all_is_forecast() -> None:
    stack = expansion(NEW_STORES | BUDGET)
    budget = stack.properties("MonthlyBudget")
    assert budget["Budget"] == {
        "BudgetType": "COST",
        "TimeUnit": "MONTHLY",
        "BudgetLimit": {"Amount": {"Ref": "MonthlyBudgetUSD"}, "Unit": "USD"},
    }
    told = [
        (one["Notification"]["NotificationType"], one["Notification"]["Threshold"], one["Subscribers"])
        for one in budget["NotificationsWithSubscribers"]
    ]
    topic = [{"SubscriptionType": "SNS", "Address": {"Ref": "AlarmTopic"}}]
    assert told == [("ACTUAL", 80, topic), ("FORECASTED", 100, topic)]
    tagged = expansion(NEW_STORES | BUDGET | {"BudgetTag": "user:application$voting"}).properties("MonthlyBudget")
    assert tagged["Budget"]["CostFilters"] == {"TagKeyValue": [{"Ref": "BudgetTag"}]}


def test_budgets_and_still_the_alarms_may_publish_to_the_encrypted_topic() -> None:
    stack = expansion(NEW_STORES | BUDGET)
    (policy,) = stack.properties("AlarmTopicPolicy")["PolicyDocument"]["Statement"]
    assert policy["Principal"]["Service"] == ["cloudwatch.amazonaws.com", "budgets.amazonaws.com"]
    assert policy["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
    key = stack.properties("Key")["KeyPolicy"]["Statement"]
    services = {one["Principal"].get("Service"): one["Action"] for one in key}
    assert services["budgets.amazonaws.com"] == services["cloudwatch.amazonaws.com"]
    assert stack.resources["MonthlyBudget"]["DependsOn"] == "AlarmTopicPolicy"


@pytest.mark.parametrize("budget", [10, 40])
def test_the_pace_of_the_budget_is_a_day_that_costs_a_month(budget: int) -> None:
    alarm = expansion(NEW_STORES | BUDGET).properties("BroadcastsCostly")
    (sum_,) = [query for query in alarm["Metrics"] if query["Id"] == "usd"]
    (posts,) = [query for query in alarm["Metrics"] if query["Id"] == "posts"]
    price = max(Prices.of(region).price("websocket_message").usd for region in regions())
    a_day = budget / price  # messages
    periods = 86_400 / posts["MetricStat"]["Period"]
    expression = compile(sum_["Expression"], "expression", "eval")
    assert eval(expression, {"posts": a_day / periods}) == pytest.approx(budget)  # noqa: S307 - of our own template
    assert alarm["Threshold"] == {"Ref": "MonthlyBudgetUSD"}
    assert 1 < alarm["DatapointsToAlarm"] < alarm["EvaluationPeriods"]
    assert "FILL" not in sum_["Expression"]


def test_the_interval_of_the_template_and_of_the_functions_has_one_default_and_the_same_bounds() -> None:
    parameter = declared()["Parameters"]["BroadcastIntervalMs"]
    assert parameter["Default"] == Settings.from_env({}).broadcast_interval_ms
    for value in (parameter["MinValue"], parameter["MaxValue"]):
        assert Settings.from_env({"BROADCAST_INTERVAL_MS": str(value)}).broadcast_interval_ms == value
    for value in (parameter["MinValue"] - 1, parameter["MaxValue"] + 1):
        with pytest.raises(InvalidSetting):
            _ = Settings.from_env({"BROADCAST_INTERVAL_MS": str(value)}).broadcast_interval_ms


@pytest.mark.parametrize(
    ("schedule", "taken"),
    [
        ("rate(1 minute)", True),
        ("cron(* 17-22 ? * FRI *)", True),
        ("cron(* 0,17-22 ? * MON-WED,FRI *)", True),
        ("cron(* 18 ? * * *)", True),
        ("rate(2 minutes)", False),
        ("cron(0 17-22 ? * FRI *)", False),
        ("cron(* * ? * FRI *)", False),
        ("", False),
    ],
)
def test_the_worker_is_started_every_minute_or_every_minute_of_some_hours(schedule: str, taken: bool) -> None:
    pattern = declared()["Parameters"]["WorkerSchedule"]["AllowedPattern"]
    assert bool(re.fullmatch(pattern, schedule)) is taken
    if taken:
        assert counting_hours(schedule) > 0
        stack = expansion(NEW_STORES | {"WorkerSchedule": schedule})
        assert stack.properties("WorkerFunctionEveryMinute")["ScheduleExpression"] == {"Ref": "WorkerSchedule"}
        silence = "breaching" if schedule.startswith("rate") else "notBreaching"
        assert stack.properties("WorkerSilent")["TreatMissingData"] == silence


def test_a_tick_that_cannot_be_handed_to_the_worker_is_kept_too(stack: Expansion) -> None:
    schedule = stack.properties("WorkerFunctionEveryMinute")
    queue = {"Fn::GetAtt": ["Failures", "Arn"]}
    assert schedule["Target"]["DeadLetterConfig"] == {"Arn": queue}
    assert schedule["Target"]["RetryPolicy"] == {"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60}
    role = schedule["Target"]["RoleArn"]["Fn::GetAtt"][0]
    assert [(one["Action"], one["Resource"]) for where, one in statements(stack) if where == role] == [
        ("lambda:InvokeFunction", {"Fn::GetAtt": ["WorkerFunction", "Arn"]}),
        ("sqs:SendMessage", queue),
    ]


def test_a_refused_handshake_sets_no_alarm_off(stack: Expansion) -> None:
    """API Gateway counts the 403 of a foreign origin as an IntegrationError: whoever likes could ring the alarm."""
    assert stack.properties("LiveServerErrors")["MetricName"] == "ExecutionError"


def test_what_the_gateway_throttles_is_told_from_its_log_by_what_the_log_holds(stack: Expansion) -> None:
    (filter_,) = stack.of("AWS::Logs::MetricFilter").values()
    (made,) = filter_["MetricTransformations"]
    alarm = stack.properties("HttpThrottled")
    assert (alarm["Namespace"], alarm["MetricName"]) == (made["MetricNamespace"], made["MetricName"])
    assert "Dimensions" not in alarm.keys() | made.keys()
    (stage,) = [each for each in stack.of("AWS::ApiGatewayV2::Stage").values() if each["ApiId"]["Ref"] == "HttpApi"]
    assert stage["AccessLogSettings"]["DestinationArn"]["Fn::GetAtt"][0] == filter_["LogGroupName"]["Ref"]
    log = json.loads(stage["AccessLogSettings"]["Format"])
    assert set(re.findall(r"\$\.(\w+)", filter_["FilterPattern"])) == {"status", "routeKey"} <= log.keys()
    assert log["status"] == "$context.status"  # in quotes, so the filter compares texts
    assert '$.status = "429"' in filter_["FilterPattern"]


def test_subscribers_are_throttled_well_below_what_the_account_takes(stack: Expansion) -> None:
    (stage,) = [each for each in stack.of("AWS::ApiGatewayV2::Stage").values() if each["ApiId"]["Ref"] == "LiveApi"]
    assert stage["DefaultRouteSettings"] == {
        "ThrottlingRateLimit": {"Ref": "FramesPerSecond"},
        "ThrottlingBurstLimit": 1000,
    }
    assert stage["RouteSettings"] == {
        "$connect": {"ThrottlingRateLimit": {"Ref": "ConnectionsPerSecond"}, "ThrottlingBurstLimit": 500}
    }


def test_a_worker_that_is_not_started_is_noticed_by_its_silence(stack: Expansion) -> None:
    assert stack.properties("WorkerSilent")["TreatMissingData"] == "breaching"


def dashboard(stack: Expansion) -> dict[str, Any]:
    """The body, with what is inserted by the mode; references are left."""
    body, inserted = stack.properties("Dashboard")["DashboardBody"]["Fn::Sub"]
    for name, value in inserted.items():
        body = body.replace(f"${{{name}}}", value["Fn::Sub"] if isinstance(value, dict) else value)
    document: dict[str, Any] = json.loads(body)
    return document


def test_the_dashboard_is_json_in_both_modes(stack: Expansion) -> None:
    document = dashboard(stack)
    titles = [widget["properties"].get("title") for widget in document["widgets"]]
    assert titles[1:7] == ["Requests", "Votes taken", "Queue", "Votes counted", "Broadcasts", "Subscribers"]
    assert ("Redis" in titles) is ("Cache" in stack.resources)


def test_functions_that_serve_users_change_over_gradually_and_back_on_an_alarm(stack: Expansion) -> None:
    groups = stack.of("AWS::CodeDeploy::DeploymentGroup")
    assert groups.keys() == {f"{name}DeploymentGroup" for name in SERVES_USERS}
    for group in groups.values():
        (alarm,) = group["AlarmConfiguration"]["Alarms"]
        assert alarm["Name"]["Ref"] in stack.of("AWS::CloudWatch::Alarm")
        assert "DEPLOYMENT_STOP_ON_ALARM" in group["AutoRollbackConfiguration"]["Events"]


HOOKS = {"VoteFunction": "SmokeFunction", "ResultFunction": "SmokeFunction", "WsConnectFunction": "LiveSmokeFunction"}


def granted(stack: Expansion, function: str, action: str) -> list[Any]:
    """The resources on which the role of *function* may do *action*."""
    role = stack.properties(function)["Role"]["Fn::GetAtt"][0]
    found = [as_list(one["Resource"]) for where, one in statements(stack) if (where, one["Action"]) == (role, action)]
    return [resource for resources in found for resource in resources]


def test_traffic_moves_only_after_the_smoke_test_of_the_version_that_it_moves_to(stack: Expansion) -> None:
    for function, hook in HOOKS.items():
        alias = stack.resources[f"{function}Aliaslive"]
        assert alias["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]["BeforeAllowTrafficHook"] == {"Ref": hook}
        version = {"Ref": alias["Properties"]["FunctionVersion"]["Fn::GetAtt"][0]}
        assert version in variables(stack, hook).values()
        assert version in granted(stack, hook, "lambda:InvokeFunction")
        group = f":deploymentgroup:${{ServerlessDeploymentApplication}}/${{{function}DeploymentGroup}}"
        reported = granted(stack, hook, "codedeploy:PutLifecycleEventHookExecutionStatus")
        assert [one for one in reported if one["Fn::Sub"].endswith(group)]


def test_the_hooks_may_do_nothing_else_and_have_names_that_codedeploy_may_invoke(stack: Expansion) -> None:
    for hook, (versions, groups) in {"SmokeFunction": (3, 2), "LiveSmokeFunction": (1, 1)}.items():
        assert len(granted(stack, hook, "lambda:InvokeFunction")) == versions
        assert len(granted(stack, hook, "codedeploy:PutLifecycleEventHookExecutionStatus")) == groups
        name = stack.properties(hook)["FunctionName"]["Fn::Sub"]
        assert name.startswith("CodeDeployHook_${AWS::StackName}")  # in the managed policy of CodeDeploy's role
        assert len(name.replace("${AWS::StackName}", LONGEST_NAME * "x")) <= 64
        assert "VpcConfig" not in stack.properties(hook)
        # Not every API of CodeDeploy need answer over IPv6.
        assert variables(stack, hook)["AWS_USE_DUALSTACK_ENDPOINT"] == "false"


def test_every_verdict_comes_before_the_function_is_ended(stack: Expansion) -> None:
    settings = Settings(
        {"VOTE_VERSION": "v", "RESULT_VERSION": "r", "BROADCAST_FUNCTION": "b", "WS_CONNECT_VERSION": "w"}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        most = len(list(smoke.checks(settings)))
    one_s = smoke.CONNECT_TIMEOUT_S + smoke.ANSWER_TIMEOUT_S
    report_s = lifecycle_hook.ATTEMPTS * (lifecycle_hook.CONNECT_TIMEOUT_S + lifecycle_hook.ANSWER_TIMEOUT_S)
    # Each check has one try after the time for trying again; the first may have begun within it.
    longest_s = smoke.TRY_AGAIN_FOR_S + smoke.PAUSE_S + most * one_s + report_s
    for hook in set(HOOKS.values()):
        assert longest_s < stack.properties(hook)["Timeout"]
    for function in HOOKS:
        assert stack.properties(function)["Timeout"] < smoke.ANSWER_TIMEOUT_S


def test_all_functions_have_one_redis_so_that_the_health_of_one_speaks_for_all(stack: Expansion) -> None:
    told = [variables(stack, name)["REDIS_URL"] for name in services(stack) - OUTSIDE]
    assert len(told) == 6
    assert all(one == told[0] for one in told)


def test_the_smoke_test_can_be_left_out() -> None:
    stack = expansion(NEW_STORES | {"SmokeTest": "false"})
    assert not [name for name in stack.resources if "Smoke" in name]
    for function in HOOKS:
        policy = stack.resources[f"{function}Aliaslive"]["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]
        assert "BeforeAllowTrafficHook" not in policy


@pytest.mark.parametrize(("mode", "all_at_once"), [("new-stores", False), ("new-stores-nat", True)])
def test_canaries_move_at_once_where_no_address_ties_them(mode: str, *, all_at_once: bool) -> None:
    """Without a domain, ws_connect is told the address of the HTTP API, which comes after the aliases it calls."""
    stack = expanded(mode)
    aliases = {f"{function}Aliaslive" for function in HOOKS}
    before = {alias: needed(stack, alias) & aliases for alias in aliases}
    assert before.pop("WsConnectFunctionAliaslive") == (
        set() if all_at_once else {"VoteFunctionAliaslive", "ResultFunctionAliaslive"}
    )
    assert not any(before.values())


def test_what_the_worker_and_the_broadcasts_fail_at_is_kept_and_never_repeated(stack: Expansion) -> None:
    configs = {config["FunctionName"]["Ref"]: config for config in stack.of("AWS::Lambda::EventInvokeConfig").values()}
    for function in ("WorkerFunction", "WsBroadcastFunction"):
        assert configs[function]["MaximumRetryAttempts"] == 0
        assert configs[function]["MaximumEventAgeInSeconds"] == 60
        assert configs[function]["DestinationConfig"]["OnFailure"]["Destination"] == {"Fn::GetAtt": ["Failures", "Arn"]}
        role = stack.properties(function)["Role"]["Fn::GetAtt"][0]
        assert ("sqs:SendMessage", {"Fn::GetAtt": ["Failures", "Arn"]}) in [
            (statement["Action"], statement["Resource"]) for where, statement in statements(stack) if where == role
        ]


def test_concurrency_is_reserved_on_request_only() -> None:
    def reserved(mode: str) -> set[str]:
        functions = expanded(mode).of("AWS::Lambda::Function")
        return {name for name, function in functions.items() if "ReservedConcurrentExecutions" in function}

    assert reserved("new-stores") == set()
    assert reserved("existing-stores-all") == {"WorkerFunction", "WsBroadcastFunction"}


def test_cors_is_off_until_an_origin_is_named() -> None:
    def cors(parameters: Mapping[str, str]) -> Any:
        return expansion(parameters).properties("HttpApi")["Body"].get("x-amazon-apigateway-cors")

    assert cors(NEW_STORES) is None
    named = cors(NEW_STORES | {"AllowedOrigins": "https://a.example,https://b.example"})
    assert named["allowOrigins"] == {"Fn::Split": [",", "https://a.example,https://b.example"]}
    assert named["allowCredentials"] is True


def test_every_route_is_throttled_and_both_apis_can_log(stack: Expansion, mode: str) -> None:
    stages = stack.of("AWS::ApiGatewayV2::Stage")
    assert len(stages) == 2
    for stage in stages.values():
        assert {"ThrottlingRateLimit", "ThrottlingBurstLimit"} <= stage["DefaultRouteSettings"].keys()
    logged = {stage["ApiId"]["Ref"] for stage in stages.values() if "AccessLogSettings" in stage}
    assert logged == ({"HttpApi", "LiveApi"} if mode == "existing-stores-all" else {"HttpApi"})


def test_access_logs_name_nobody(stack: Expansion) -> None:
    for stage in stack.of("AWS::ApiGatewayV2::Stage").values():
        log = stage.get("AccessLogSettings", {}).get("Format", "{}")
        assert json.loads(log) is not None
        assert not re.findall(r"identity|sourceIp|userAgent|cookie|authorizer", log)


# ---------------------------------------------------------------- the modes


def test_the_parameters_and_the_rules_let_every_mode_pass(mode: str) -> None:
    assert refused(declared(), MODES[mode]) == []


@pytest.mark.parametrize(
    ("parameters", "word"),
    [
        ({"VpcId": "vpc-0123456789abcdef0"}, "VpcId"),
        ({"SubnetIds": "subnet-0123456789abcdef0"}, "SubnetIds"),
        ({"DatabaseHost": "old.example.org"}, "DatabaseHost"),
        ({"DatabaseUrl": "postgresql://x"}, "DatabaseUrl"),
        ({"RedisUrl": "redis://x"}, "VpcId"),
        ({name: value for name, value in EXISTING_STORES.items() if name != "SubnetIds"}, "SubnetIds"),
        ({name: value for name, value in EXISTING_STORES.items() if name != "DatabaseSecretArn"}, "DatabaseSecretArn"),
        (EXISTING_STORES | {"DatabaseUrl": "postgresql://x"}, "once"),
        ({"DomainName": "vote.example.org"}, "CertificateArn"),
        (DOMAINS | {"LiveDomainName": "vote.example.org"}, "differ"),
        ({"HostedZoneId": "Z0123456789"}, "HostedZoneId"),
        ({"CertificateArn": DOMAINS["CertificateArn"]}, "CertificateArn"),
    ],
)
def test_the_rules_refuse_half_a_mode(parameters: Mapping[str, str], word: str) -> None:
    assert any(word in reason for reason in broken_rules(declared(), parameters))


@pytest.mark.parametrize(
    ("name", "taken", "refused"),
    [
        ("AllowedOrigins", ["", "https://a.example", "https://a.example,http://127.0.0.1:8080"], "https://a.example/"),
        ("AllowedOrigins", ["https://xn--bcher-kva.example"], "https://a.example, https://b.example"),
        ("AllowedOrigins", [], "*"),
        ("DatabaseVersion", ["17.9", "17.12"], "17"),  # the parameter group is of 17; CloudFormation wants a minor one
        ("DatabaseVersion", [], "18.1"),
        ("RedisUrl", ["", "redis://cache", "rediss://u:p@cache:6379/0"], "cache:6379"),
        ("CookieKeys", ["", "k" * 32], "short"),
        ("VpcCidr", ["10.20.0.0/20"], "10.20.0.0/24"),
    ],
)
def test_a_parameter_refuses_what_would_fail_later(name: str, taken: list[str], refused: str) -> None:
    pattern = declared()["Parameters"][name]["AllowedPattern"]
    assert all(re.fullmatch(pattern, value) for value in taken)
    assert not re.fullmatch(pattern, refused)


def test_with_domains_pages_and_subscribers_are_sent_to_them() -> None:
    stack = expanded("new-stores-nat")
    assert variables(stack, "ResultFunction")["WEBSOCKET_URL"] == {"Fn::Sub": "wss://${LiveDomainName}"}
    assert variables(stack, "WsConnectFunction")["HTTP_URL"] == {"Fn::Sub": "https://${DomainName}"}
    assert {mapping["Stage"]["Ref"] for mapping in stack.of("AWS::ApiGatewayV2::ApiMapping").values()} == set(
        stack.of("AWS::ApiGatewayV2::Stage")
    )


# ---------------------------------------------------------------- samconfig.toml

SAMCONFIG = tomllib.loads((ROOT / "samconfig.toml").read_text())


@pytest.mark.parametrize("environment", sorted(SAMCONFIG.keys() - {"version"}))
def test_every_environment_gives_parameters_that_the_template_takes(environment: str) -> None:
    given = SAMCONFIG[environment]["deploy"]["parameters"]["parameter_overrides"]
    parameters = CfnParameterOverridesType().convert(given, None, None)
    assert refused(declared(), parameters) == []
    assert not [name for name in parameters if declared()["Parameters"][name].get("NoEcho")]  # no place for secrets
    assert parameters["Release"] == ""  # one that is repeated publishes nothing; so does one that is left out


@pytest.mark.parametrize(
    ("parameters", "fault"),
    [
        ({"RedisURL": "redis://x"}, "RedisURL is no parameter"),
        ({"Rollout": "Slowly"}, "Rollout: not one of AllowedValues"),
        ({"VpcCidr": "10.20.0.0/24"}, "VpcCidr: AllowedPattern"),
        ({"OptionA": ""}, "OptionA: its length"),
        ({"CacheNodes": "7"}, "CacheNodes: out of bounds"),
        ({"CacheNodes": "two"}, "CacheNodes: no number"),
        (
            {"DatabaseHost": "old.example.org"},
            "DatabaseHost, DatabaseSecretArn and DatabaseUrl belong to existing stores",
        ),
    ],
)
def test_a_value_that_cloudformation_refuses_is_found(parameters: Mapping[str, str], fault: str) -> None:
    assert [found for found in refused(declared(), parameters) if found.startswith(fault)]


def test_a_secret_that_is_none_is_as_good_as_empty() -> None:
    secrets = [name for name, one in declared()["Parameters"].items() if one.get("NoEcho")]
    assert secrets == ["CookieKeys", "RedisUrl", "DatabaseUrl"]
    none = dict.fromkeys(secrets, "none")
    assert refused(declared(), none) == []
    assert expansion(NEW_STORES | none).resources == expansion(NEW_STORES).resources
    existing = EXISTING_STORES | {"CookieKeys": "none", "DatabaseUrl": "none"}
    assert refused(declared(), existing) == []
    assert expansion(existing).resources == expansion(EXISTING_STORES).resources


def test_a_deployment_builds_for_its_architecture_and_names_a_release_of_its_own(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    program = tmp_path / "sam"  # stands in for the SAM CLI, which would look for an account
    program.write_text(f'#!/bin/sh\necho "$ARCHITECTURE $@" >> {calls}\n')
    program.chmod(0o755)
    words = [sys.executable, str(ROOT / "scripts/deploy.py"), str(program), "prod", "--no-execute"]
    subprocess.run(words, env=os.environ | {"CHECK": "0"}, check=True)  # there is no account to look over
    build, deploy = calls.read_text().splitlines()
    assert build.startswith('arm64 build --parameter-overrides Architecture="arm64" ')
    assert "deploy --config-env prod --no-execute --parameter-overrides " in deploy
    (release,) = re.findall(r'Release="(\S*)"', deploy)
    assert re.fullmatch(declared()["Parameters"]["Release"]["AllowedPattern"], release)
    assert len(release) == 10  # SAM puts no more into the name of a version


def test_an_environment_that_is_not_there_is_named() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/deploy.py"), "sam", "test"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "[test.deploy.parameters]" in done.stderr
