"""Quotas that the deployment needs room in. Each has AWS's default for an account that may not read it."""

from collections.abc import Iterator

from votectl.account.look import Look
from votectl.aws_account import NotAllowed, Refused
from votectl.findings import Finding

RESERVED = {"WorkerFunction": 3, "WsBroadcastFunction": 16}  # the template's; a test compares them
# Lambda keeps this much unreserved. https://docs.aws.amazon.com/lambda/latest/dg/configuration-concurrency.html
UNRESERVED = 100
VPCS, ADDRESSES, CACHE_NODES = ("vpc", "L-F678F1CE", 5), ("ec2", "L-0263D0A3", 5), ("elasticache", "L-DFE45DF3", 300)
RAISE = "`aws service-quotas request-service-quota-increase --service-code {} --quota-code {} --desired-value …`"


def concurrency(look: Look) -> Iterator[Finding]:
    """Lambda's concurrent executions: too few to reserve any make the deployment fail, few throttle."""
    limit = look.account.ask("lambda", "get_account_settings")["AccountLimit"]
    total, free = limit["ConcurrentExecutions"], limit["UnreservedConcurrentExecutions"]
    todo = "ask for 1,000: " + RAISE.format("lambda", "L-B99A9384")
    has_reserved = look.stack is not None and look.stack.parameters.get("ReserveConcurrency") == "true"
    needed = 0 if has_reserved or look["ReserveConcurrency"] != "true" else sum(RESERVED.values())
    if needed and free - needed < UNRESERVED:
        yield Finding(
            "problem",
            f"ReserveConcurrency=true takes {needed} of {free} unreserved executions, and Lambda keeps {UNRESERVED}",
            f"ReserveConcurrency=false, or {todo}",
        )
    elif total < UNRESERVED:
        yield Finding("note", f"Lambda runs {total} executions at once: votes and broadcasts are throttled early", todo)
    else:
        yield Finding("ok", f"Lambda runs {total:,} executions at once, {free:,} of them unreserved")


def networks(look: Look) -> Iterator[Finding]:
    """Networks (VPCs)."""
    if look.makes_stores:
        used = len(look.account.every("ec2", "describe_vpcs", "Vpcs"))
        yield _room(look, "VPCs", used, 1, VPCS, "or delete one")


def addresses(look: Look) -> Iterator[Finding]:
    """Elastic IPs, of which a NAT gateway takes one."""
    if look.makes_stores and look["Egress"] == "nat":
        used = len(look.account.ask("ec2", "describe_addresses")["Addresses"])
        yield _room(look, "Elastic IPs", used, 1, ADDRESSES, "or release one, or Egress=ipv6")


def databases(look: Look) -> Iterator[Finding]:
    """Database instances. RDS knows its quotas and their use itself."""
    if look.makes_stores:
        found = look.account.ask("rds", "describe_account_attributes")["AccountQuotas"]
        quota = {one["AccountQuotaName"]: one for one in found}["DBInstances"]
        yield _line("RDS instances", quota["Used"], 1, quota["Max"], "", RAISE.format("rds", "L-7B6409FD"))


def cache_nodes(look: Look) -> Iterator[Finding]:
    """Nodes of ElastiCache."""
    if look.makes_stores:
        found = look.account.every("elasticache", "describe_cache_clusters", "CacheClusters")
        used = sum(one["NumCacheNodes"] for one in found)
        yield _room(look, "ElastiCache nodes", used, int(look["CacheNodes"]), CACHE_NODES, "or fewer CacheNodes")


def _room(look: Look, what: str, used: int, needed: int, quota: tuple[str, str, int], otherwise: str) -> Finding:
    service, code, default = quota
    raising = f"{RAISE.format(service, code)}, {otherwise}"
    try:
        answer = look.account.ask("service-quotas", "get_service_quota", ServiceCode=service, QuotaCode=code)
        return _line(what, used, needed, int(answer["Quota"]["Value"]), "", raising)
    except Refused:  # never raised, in some regions
        return _line(what, used, needed, default, " by default", raising)
    except NotAllowed as error:
        return _line(what, used, needed, default, f" by default (the account's own needs {error})", raising)


def _line(what: str, used: int, needed: int, quota: int, origin: str, todo: str) -> Finding:
    found = f"{what}: {used} of {quota}{origin}, and {needed} more to be made"
    return Finding("problem", found, todo) if used + needed > quota else Finding("ok", found)
