"""The account's plan, and the roles that services take on in it."""

from collections.abc import Iterator

from votectl.account.look import Look
from votectl.aws_account import Refused
from votectl.findings import Finding

FREE_BACKUP_DAYS = 1  # more is reported as refused; AWS publishes no number
# By CloudFormation's side: the service makes its role when it makes the first resource, if the caller may.
ROLES = {
    "AWSServiceRoleForElastiCache": "elasticache.amazonaws.com",
    "AWSServiceRoleForRDS": "rds.amazonaws.com",
}
GATEWAY_ROLE = {"AWSServiceRoleForAPIGateway": "ops.apigateway.amazonaws.com"}  # for domain names


def free_plan(look: Look) -> Iterator[Finding]:
    """Whether the account has the free plan, whose databases are micro and keep one day of backups.

    `FreeTierRestrictionError` in the middle of a deployment otherwise: https://github.com/yc-software/qm/issues/352
    """
    if look.account.partition != "aws":
        return
    try:
        plan = look.account.ask("freetier", "get_account_plan_state", region="us-east-1")
    except Refused as error:
        if error.code != "ResourceNotFoundException":
            raise
        yield Finding("ok", "the account is older than account plans")
        return
    if plan["accountPlanStatus"] == "EXPIRED":
        yield Finding("problem", "the account's free plan has expired", "upgrade it in the console, under Billing")
    elif plan["accountPlanType"] != "FREE":
        yield Finding("ok", "a paid account plan")
    elif look.has_new_stores:
        yield from _restrictions(look)
    else:
        yield Finding("ok", "a free account plan, with stores that exist already")


def _restrictions(look: Look) -> Iterator[Finding]:
    todo = "{}, as in the environment dev, or upgrade the account's plan"
    kind, days = look["DatabaseClass"], int(look["BackupDays"])
    if not kind.endswith(".micro"):
        what = f"free account plan: RDS refuses the instance class {kind}"
        yield Finding("problem", what, todo.format("DatabaseClass=db.t4g.micro"))
    if days > FREE_BACKUP_DAYS:
        what = f"free account plan: RDS refuses {days} days of backups"
        yield Finding("problem", what, todo.format(f"BackupDays={FREE_BACKUP_DAYS}"))
    if kind.endswith(".micro") and days <= FREE_BACKUP_DAYS:
        yield Finding("note", "free account plan: credits pay for the stack, and AWS may refuse larger ones")


def service_roles(look: Look) -> Iterator[Finding]:
    """The service-linked roles of the stores, and of domain names."""
    roles = (ROLES if look.makes_stores else {}) | (
        GATEWAY_ROLE if look["DomainName"] or look["LiveDomainName"] else {}
    )
    for name, service in roles.items():
        try:
            look.account.ask("iam", "get_role", RoleName=name)
        except Refused as error:
            if error.code != "NoSuchEntity":
                raise
            yield Finding(
                "note",
                f"no {name} yet: the first resource makes it, with your right iam:CreateServiceLinkedRole",
                f"if that fails: `aws iam create-service-linked-role --aws-service-name {service}`, and deploy again",
            )
        else:
            yield Finding("ok", f"the role {name}")
