"""All checks of an account, in the order in which they are shown. One that fails says so and stops no other."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from votectl.account.gateway import domains, log_role, throttle
from votectl.account.identity import identity, region
from votectl.account.look import Look, effective
from votectl.account.plan import free_plan, service_roles
from votectl.account.quotas import addresses, cache_nodes, concurrency, databases, networks
from votectl.account.stack import left_logs, left_secrets, protection, state
from votectl.aws_account import AwsAccount, NotAllowed, Unanswered
from votectl.aws_client import NotConfigured
from votectl.deployed_stack import find_stack
from votectl.environment import Environment, defaults
from votectl.findings import Finding

Check = Callable[[Look], Iterable[Finding]]
CHECKS: dict[str, Check] = {
    "the stack": state,
    "deletion protection": protection,
    "log groups": left_logs,
    "secrets": left_secrets,
    "the account's plan": free_plan,
    "Lambda's concurrency": concurrency,
    "API Gateway's throttle": throttle,
    "API Gateway's role for logs": log_role,
    "domain names": domains,
    "VPCs": networks,
    "Elastic IPs": addresses,
    "RDS instances": databases,
    "ElastiCache nodes": cache_nodes,
    "service-linked roles": service_roles,
}


def findings(environment: Environment) -> Iterator[Finding]:
    """Check the account for a deployment of *environment*.

    Raises:
        NoEnvironment: the template cannot be read.
    """
    template = defaults()
    try:
        account = AwsAccount(environment.region, environment.profile)
        yield identity(account)
    except NotConfigured as error:
        yield Finding("problem", str(error))
        return
    except Unanswered as error:
        yield Finding("problem", f"no access to AWS: {error}", "`aws sts get-caller-identity` asks the same")
        return
    places = _isolated("the region", partial(region, account))
    yield from places
    if any(finding.level == "problem" for finding in places):
        return
    try:
        stack = find_stack(account, environment.stack)
    except Unanswered as error:  # without it, no question about the stack makes sense, and no deployment works
        yield Finding("problem", f"the stack cannot be looked at: {_because(error)}")
        return
    yield from _in_parallel(Look(account, environment.stack, stack, effective(template, stack, environment.given)))


def _in_parallel(look: Look) -> Iterator[Finding]:
    """Make all checks at once, so that hanging endpoints take no longer than one of them."""
    with ThreadPoolExecutor(len(CHECKS)) as pool:
        made = [pool.submit(_isolated, name, partial(check, look)) for name, check in CHECKS.items()]
        for one in made:
            yield from one.result()


def _isolated(name: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    found: list[Finding] = []
    try:
        found.extend(check())
    except Unanswered as error:
        found.append(Finding("note", f"{name} not checked: {_because(error)}"))
    except (KeyError, ValueError) as error:
        found.append(Finding("note", f"{name} not checked: unexpected value {error}"))
    return found


def _because(error: Unanswered) -> str:
    return f"the permission {error} is missing" if isinstance(error, NotAllowed) else str(error)
