"""The stack that exists already, and what a former one has left."""

from collections.abc import Iterator

from votectl.account.look import Look
from votectl.aws_account import Unanswered
from votectl.deployed_stack import DeployedStack, failed, resources
from votectl.findings import Finding
from votectl.remains import log_groups, secrets

TEARDOWN = "`python -m votectl teardown --stack {0}`, then deploy again"
# What CloudFormation lets one do in a state that it does not leave by itself.
TODO = {
    "CREATE_FAILED": TEARDOWN,
    "ROLLBACK_COMPLETE": TEARDOWN,
    "ROLLBACK_FAILED": "mend the cause; " + TEARDOWN + " (`--delete-data` if the database is protected)",
    "DELETE_FAILED": TEARDOWN,
    "UPDATE_FAILED": "`aws cloudformation rollback-stack --stack-name {0}`",
    "UPDATE_ROLLBACK_FAILED": "mend the cause; `aws cloudformation continue-update-rollback --stack-name {0}`, with "
    "`--resources-to-skip NAME` for what cannot be rolled back",
}


def state(look: Look) -> Iterator[Finding]:
    """Whether CloudFormation would take an update of the stack now."""
    stack = look.stack
    if stack is None or stack.status == "REVIEW_IN_PROGRESS":
        yield Finding("ok", f"no stack {look.name} yet: this is its first deployment")
    elif stack.status.endswith("_FAILED") or stack.status in TODO:
        yield Finding("problem", f"the stack {look.name} is in {stack.status}{_why(look, stack)}", _todo(look, stack))
    elif stack.is_in_progress:
        yield Finding("problem", f"the stack {look.name} is in {stack.status}", "wait until that ends")
    else:
        yield Finding("ok", f"the stack {look.name} is in {stack.status}")


def _todo(look: Look, stack: DeployedStack) -> str:
    return TODO.get(stack.status, "mend the cause that its events name").format(look.name)


def _why(look: Look, stack: DeployedStack) -> str:
    try:
        return f" ({failed(resources(look.account, stack)) or stack.reason or 'without a reason'})"
    except Unanswered:
        return f" ({stack.reason})" if stack.reason else ""


def protection(look: Look) -> Iterator[Finding]:
    """Whether a failure could be rolled back: RDS does not delete a protected database, for CloudFormation neither."""
    if look.makes_stores and look["ProtectDatabase"] == "true":
        yield Finding(
            "problem",
            "ProtectDatabase=true in a first deployment: if anything fails, RDS refuses to delete the database, and "
            "the stack ends in ROLLBACK_FAILED",
            'deploy with ARGS="--parameter-overrides ProtectDatabase=false" once, then again without',
        )


def left_logs(look: Look) -> Iterator[Finding]:
    """Log groups that the stack would make, and that are there."""
    if not look.is_first or look.stack:  # a stack that failed may still own them
        return
    found = log_groups(look.account, look.name)
    if found:
        yield Finding(
            "problem",
            f"log groups are there already, and CloudFormation would refuse to make them: {', '.join(found)}",
            "delete each: `aws logs delete-log-group --log-group-name NAME`",
        )
    else:
        yield Finding("ok", "no log groups of a former stack")


def left_secrets(look: Look) -> Iterator[Finding]:
    """Secrets that a former stack of this name has left."""
    if not look.is_first or look.stack or look["CookieKeys"]:
        return
    found = secrets(look.account, look.name)
    if found:
        yield Finding(
            "note",
            f"a former stack {look.name} left {', '.join(found)}; with a new cookie key every voter is a new voter",
            "to keep the voters, pass its value as CookieKeys; otherwise delete it",
        )
    else:
        yield Finding("ok", "no secrets of a former stack")
