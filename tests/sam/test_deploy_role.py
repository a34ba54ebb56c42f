"""pipeline/deploy-role.yaml, held to what template.yaml makes.

What CloudFormation needs for a type stands in the type's schema, which cfn-lint brings along: the actions of its
handlers. The schemas say nothing of resources and conditions, and some name actions of features that are not used here.
No account has tried the roles. `make check` has cfn-lint see that every action exists.
"""

import json
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import pytest
from cfnlint.schema import PROVIDER_SCHEMA_MANAGER

from local.template.intrinsics import parse
from tests.sam.expansion import DOMAINS, EXISTING_STORES, LOGGED, NAT, NEW_STORES, REGION, TEMPLATE, expand, expansion

ROLE = TEMPLATE.parent / "pipeline" / "deploy-role.yaml"
MODES = (NEW_STORES, NEW_STORES | NAT | DOMAINS | LOGGED, EXISTING_STORES | DOMAINS | LOGGED)
HANDLERS = ("create", "read", "update", "delete")
# Types without handlers in their schemas.
BY_HAND = {
    "AWS::Route53::RecordSetGroup": {
        "route53:ChangeResourceRecordSets",
        "route53:GetChange",
        "route53:GetHostedZone",
        "route53:ListResourceRecordSets",
    },
}
# What handlers ask for that this template gives them no reason to: each would be a right too many.
UNUSED = {
    "addresses that are transferred or attached, and pools of them": (
        "ec2:AcceptAddressTransfer ec2:AllocateIpamPoolCidr ec2:AssociateAddress"
        " ec2:AssignPrivateNatGatewayAddress ec2:UnassignPrivateNatGatewayAddress"
        " ec2:AssociateNatGatewayAddress ec2:DisassociateNatGatewayAddress"
    ),
    "VPN, encryption control and tenancy": (
        "ec2:AttachVpnGateway ec2:DetachVpnGateway ec2:CreateVpcEncryptionControl ec2:ModifyVpcTenancy"
    ),
    "file systems and capacity providers of functions": (
        "elasticfilesystem:DescribeMountTargets s3files:ListMountTargets lambda:PassCapacityProvider"
    ),
    "code signing, pinned runtimes, provisioned concurrency, recursion and scaling": (
        "lambda:AssociateRuntimeAlias lambda:PutFunctionCodeSigningConfig lambda:DeleteFunctionCodeSigningConfig"
        " lambda:PutRuntimeManagementConfig lambda:PutFunctionRecursionConfig lambda:PutFunctionScalingConfig"
        " lambda:PutProvisionedConcurrencyConfig lambda:DeleteProvisionedConcurrencyConfig"
    ),
    "budgets on another account's bill": "billing:GetBillingViewData",
    "instances of CodeDeploy": "codedeploy:RegisterOnPremisesInstance",
    "users and groups of IAM, and a role without its boundary": (
        "iam:AttachGroupPolicy iam:AttachUserPolicy iam:DetachGroupPolicy iam:DetachUserPolicy iam:ListRoles"
        " iam:DeleteRolePermissionsBoundary"
    ),
    "other kinds of log groups": (
        "firehose:PutRecord firehose:PutRecordBatch firehose:TagDeliveryStream logs:AssociateKmsKey"
        " logs:DisassociateKmsKey logs:CreateLogStream logs:PutLogEvents logs:DeleteResourcePolicy"
        " logs:PutDataProtectionPolicy logs:DeleteDataProtectionPolicy logs:PutIndexPolicy logs:DeleteIndexPolicy"
        " logs:PutBearerTokenAuthentication logs:PutLogGroupDeletionProtection s3:REST.PUT.OBJECT"
    ),
    "replicas, restores and roles of databases": (
        "rds:AddRoleToDBInstance rds:RemoveRoleFromDBInstance rds:CreateDBInstanceReadReplica rds:PromoteReadReplica"
        " rds:RestoreDBInstanceFromDBSnapshot rds:RestoreDBInstanceToPointInTime"
        " rds:StartDBInstanceAutomatedBackupsReplication rds:StopDBInstanceAutomatedBackupsReplication"
    ),
    "replicas of secrets, and messages that are looked through": (
        "secretsmanager:RemoveRegionsFromReplication secretsmanager:ReplicateSecretToRegions"
        " sns:PutDataProtectionPolicy"
    ),
    "tags of API Gateway, which are written by its verbs": "apigateway:TagResource apigateway:UntagResource",
}
# EC2 and the rest know no narrower resource for these; a condition or a comment in the template says more.
EVERYWHERE = {
    "Network",
    "DatabaseReads",
    "DrawPasswords",
    "MakeKey",
    "AccessLogs",
    "WatchReads",
    "Interfaces",
}
GIVES_RIGHTS = {"iam:CreateRole", "iam:PutRolePolicy", "iam:AttachRolePolicy", "iam:PutRolePermissionsBoundary"}


@cache
def needed() -> dict[str, set[str]]:
    """The actions, without those of UNUSED, with the types that need them."""
    unused = {action for actions in UNUSED.values() for action in actions.split()}
    found: dict[str, set[str]] = {}
    for kind in {one["Type"] for mode in MODES for one in parse(expand(mode))["Resources"].values()}:
        for action in BY_HAND.get(kind) or handled(kind):
            if action not in unused:
                found.setdefault(action, set()).add(kind)
    return found


def handled(kind: str) -> set[str]:
    if kind.startswith("Custom::"):
        return {"lambda:InvokeFunction"}  # of the function that makes it
    handlers = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, kind).schema["handlers"]
    return {action for name in HANDLERS for action in handlers.get(name, {"permissions": []})["permissions"]}


@cache
def resources() -> Mapping[str, Any]:
    found: Mapping[str, Any] = parse(ROLE.read_text())["Resources"]
    return found


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements(*names: str) -> Iterator[Mapping[str, Any]]:
    """Those of the policies and roles called *names*, or of all, also where they depend on a condition."""
    for name, one in resources().items():
        if names and name not in names:
            continue
        properties = one["Properties"]
        inline = [policy["PolicyDocument"] for policy in properties.get("Policies", [])]
        for document in [*inline, *([properties["PolicyDocument"]] if "PolicyDocument" in properties else [])]:
            for statement in document["Statement"]:
                yield statement["Fn::If"][1] if "Fn::If" in statement else statement


EXECUTION = [name["Ref"] for name in resources()["ExecutionRole"]["Properties"]["ManagedPolicyArns"]]


def granted(*names: str) -> set[str]:
    return {action for one in statements(*names) if one["Effect"] == "Allow" for action in as_list(one["Action"])}


def covers(patterns: set[str], action: str) -> bool:
    return any(fnmatchcase(action.lower(), pattern.lower()) for pattern in patterns)


def test_cloudformation_may_do_what_the_types_in_the_template_need() -> None:
    patterns = granted(*EXECUTION)
    assert len(needed()) > 200
    assert {action: kinds for action, kinds in needed().items() if not covers(patterns, action)} == {}


def test_it_may_do_nothing_that_they_do_not_need() -> None:
    wanted = {action.lower() for action in needed()} | {"iam:passrole"}
    patterns = granted(*EXECUTION)
    assert {one for one in patterns if not any(fnmatchcase(action, one.lower()) for action in wanted)} == set()
    reads = ("Describe*", "Get*", "List*")
    assert [one for one in patterns if "*" in one and not one.endswith(reads)] == []


def test_what_is_called_unused_is_asked_for_by_a_handler() -> None:
    kinds = {kind for found in needed().values() for kind in found} - BY_HAND.keys()
    asked = {action for kind in kinds for action in handled(kind)}
    assert {action for actions in UNUSED.values() for action in actions.split()} - asked == set()


def test_nothing_is_granted_on_everything_but_what_knows_no_narrower_resource() -> None:
    allowed = [one for one in statements() if one["Effect"] == "Allow"]
    assert {one["Sid"] for one in allowed if "*" in as_list(one["Resource"])} == EVERYWHERE
    services = {action.partition(":")[2] for one in allowed for action in as_list(one["Action"])}
    assert "*" not in services


def test_a_role_gets_rights_only_within_the_boundary_or_a_policy_of_aws() -> None:
    for one in statements(*EXECUTION):
        actions = {*as_list(one["Action"])}
        if one["Effect"] == "Allow" and actions & GIVES_RIGHTS and one["Sid"] != "RolesOfServices":
            assert one["Sid"] in {"RightsWithinTheBoundary", "RightsOfServices"}
            (condition,) = one["Condition"].values()
            assert condition.keys() <= {"iam:PermissionsBoundary", "iam:PolicyARN"}
    (bare,) = [one for one in statements(*EXECUTION) if one["Sid"] == "RolesOfServices"]
    (theirs,) = [one for one in statements(*EXECUTION) if one["Sid"] == "RightsOfServices"]
    assert bare["Action"] == "iam:CreateRole"
    assert bare["Resource"] == theirs["Resource"]
    assert {"iam:DeleteRolePermissionsBoundary", "iam:PutUserPolicy"} & granted() == set()


def test_roles_without_a_boundary_are_those_that_only_have_a_policy_of_aws() -> None:
    bare = set()
    for mode in MODES:
        stack = expansion(mode | {"PermissionsBoundary": "arn:aws:iam::123456789012:policy/boundary"})
        for name, role in stack.of("AWS::IAM::Role").items():
            if "PermissionsBoundary" not in role:
                assert not role.get("Policies"), name
                bare.add(name)
    assert bare == {"CodeDeployServiceRole", "ApiGatewayLogRole"}
    (theirs,) = [one for one in statements(*EXECUTION) if one["Sid"] == "RightsOfServices"]
    assert {one["Fn::Sub"].rpartition("-")[0].rpartition("-")[2] for one in theirs["Resource"]} == bare
    attached = {one["Fn::Sub"].rpartition("/")[2] for one in theirs["Condition"]["ArnEquals"]["iam:PolicyARN"]}
    named = json.dumps([expansion(LOGGED | EXISTING_STORES).properties(name)["ManagedPolicyArns"] for name in bare])
    assert all(one in named for one in attached)


def test_without_a_boundary_the_roles_are_as_they_were() -> None:
    stack = expansion(NEW_STORES)
    assert not [name for name, role in stack.of("AWS::IAM::Role").items() if "PermissionsBoundary" in role]


def test_the_boundary_allows_what_the_roles_of_the_template_do() -> None:
    patterns = granted("Boundary")
    for mode in MODES:
        stack = expansion(mode | {"PermissionsBoundary": "arn:aws:iam::123456789012:policy/boundary"})
        documents = [one["PolicyDocument"] for one in stack.of("AWS::IAM::ManagedPolicy").values()]
        for role in stack.of("AWS::IAM::Role").values():
            documents += [policy["PolicyDocument"] for policy in role.get("Policies", [])]
        for statement in (one for document in documents for one in document["Statement"] if one["Effect"] == "Allow"):
            assert [action for action in as_list(statement["Action"]) if not covers(patterns, action)] == []


def test_a_role_is_handed_to_the_services_alone_that_the_template_gives_one() -> None:
    for one in statements():
        if one["Effect"] == "Allow" and "iam:PassRole" in as_list(one["Action"]):
            assert one["Resource"] != "*"
            assert "iam:PassedToService" in one["Condition"]["StringEquals"]


@pytest.mark.parametrize(
    ("role", "subject"),
    [
        ("DeployRole", "repo:${Repository}:environment:${Environment}"),
        ("ChangeSetRole", "repo:${Repository}:pull_request"),
    ],
)
def test_a_job_is_known_by_its_whole_subject(role: str, subject: str) -> None:
    (statement,) = resources()[role]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    issuer = "token.actions.githubusercontent.com"
    assert statement["Condition"] == {
        "StringEquals": {f"{issuer}:aud": "sts.amazonaws.com", f"{issuer}:sub": {"Fn::Sub": subject}}
    }


def test_a_pull_request_can_change_nothing_and_plant_no_artifact() -> None:
    actions = granted("ChangeSetRole")
    assert {one.partition(":")[0] for one in actions} == {"cloudformation", "s3"}
    assert {
        "cloudformation:ExecuteChangeSet",
        "cloudformation:DeleteStack",
        "cloudformation:UpdateStack",
    } & actions == set()
    prefixes = {
        name: one["Resource"]["Fn::Sub"].rpartition("-*/")[2]
        for name in ("ChangeSetRole", "DeployRole")
        for one in statements(name)
        if one["Sid"] == "Upload"
    }
    assert prefixes == {"ChangeSetRole": "pull-request/*", "DeployRole": "${Stack}/*"}


def test_every_secret_of_the_template_may_be_made() -> None:
    (secrets,) = [one for one in statements("StorePolicy") if one["Sid"] == "Secrets"]
    allowed = {one["Fn::Sub"].rpartition(":")[2] for one in secrets["Resource"]}
    made = {f"{name}-*" for mode in MODES for name in expansion(mode).of("AWS::SecretsManager::Secret")}
    assert allowed == made | {"rds!db-*"}


def test_the_policies_fit_into_the_quotas_of_iam() -> None:
    for name, one in resources().items():
        if one["Type"] == "AWS::IAM::ManagedPolicy":
            assert len(json.dumps(resolved(one["Properties"]["PolicyDocument"]), separators=(",", ":"))) < 6144, name


def resolved(value: Any) -> Any:
    """*value* with names of the greatest length in it."""
    if isinstance(value, Mapping):
        if value.keys() == {"Fn::Sub"}:
            return re.sub(r"\$\{[^}]*\}", "x" * 21, value["Fn::Sub"])  # no longer than the name of a stack
        return {key: resolved(item) for key, item in value.items()}
    return [resolved(item) for item in value] if isinstance(value, list) else value
