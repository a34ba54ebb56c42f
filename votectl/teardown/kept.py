"""What is left when a stack is gone, and what of it still bills."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from votectl.aws_account import AwsAccount, NotAllowed, Unanswered
from votectl.findings import Finding
from votectl.remains import (
    artifacts,
    cache_snapshots,
    database_backups,
    database_logs,
    database_snapshots,
    log_groups,
    secrets,
)


def kept(account: AwsAccount, stack: str, prefix: str) -> Iterator[Finding]:
    """Look for all that a stack of this name, with its artifacts under *prefix*, may have left."""
    named: dict[str, tuple[Callable[[], Iterable[str]], str, str]] = {
        "secret": (
            partial(secrets, account, stack),
            "bills each month; with it a next stack keeps the voters",
            "`aws secretsmanager delete-secret --secret-id {}`",
        ),
        "snapshot of the database": (
            partial(database_snapshots, account, stack),
            "bills per GiB and month",
            "`aws rds delete-db-snapshot --db-snapshot-identifier {}`",
        ),
        "automated backups of the database": (
            partial(database_backups, account, stack),
            "bill per GiB until BackupDays have passed",
            "`aws rds describe-db-instance-automated-backups` and `delete-db-instance-automated-backup`",
        ),
        "snapshot of the cache": (
            partial(cache_snapshots, account, stack),
            "bills per GiB and month",
            "`aws elasticache delete-snapshot --snapshot-name {}`",
        ),
        "log group of the database": (
            partial(database_logs, account, stack),
            "bills per GiB until LogRetentionDays have passed",
            "`aws logs delete-log-group --log-group-name {}`",
        ),
        "log group": (
            partial(log_groups, account, stack),
            "bills per GiB, and stands in the way of a next stack of this name",
            "`aws logs delete-log-group --log-group-name {}`",
        ),
    }
    for what, (look, bills, todo) in named.items():
        yield from _isolated(what, partial(_named, what, look, bills, todo))
    yield from _isolated("artifacts", partial(_artifacts, account, prefix))


def _named(what: str, look: Callable[[], Iterable[str]], bills: str, todo: str) -> Iterator[Finding]:
    found = list(look())
    for name in found:
        yield Finding("note", f"{what} {name}: {bills}", todo.format(name.split(" ")[0]))
    if not found:
        yield Finding("ok", f"no {what}")


def _artifacts(account: AwsAccount, prefix: str) -> Iterator[Finding]:
    found = artifacts(account, prefix)
    if found is None:
        yield Finding("ok", "no artifacts in SAM's bucket")
        return
    where, count, size = found
    what = f"{count:,} artifacts of SAM in {where}, {size / 1e6:,.1f} MB: bill per GB and month"
    yield Finding("note", what, f"`aws s3 rm --recursive {where}`")


def _isolated(what: str, look: Callable[[], Iterable[Finding]]) -> list[Finding]:
    try:
        return list(look())
    except NotAllowed as error:
        return [Finding("note", f"{what}: not looked for; the permission {error} is missing")]
    except Unanswered as error:
        return [Finding("note", f"{what}: not looked for; {error}")]
