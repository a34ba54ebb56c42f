"""What of a stack outlives it."""

from collections.abc import Iterator
from typing import Any

from votectl.aws_account import AwsAccount
from votectl.deployed_stack import find_stack

SAM_STACK = "aws-sam-cli-managed-default"  # which `resolve_s3 = true` makes, with the bucket as an output
LOG_PREFIXES = ("/aws/lambda/{}/", "/aws/vendedlogs/{}/")


def secrets(account: AwsAccount, stack: str) -> list[str]:
    """The names of secrets that a stack of this name made; CloudFormation tags what it makes."""
    filters = [
        {"Key": "tag-key", "Values": ["aws:cloudformation:stack-name"]},
        {"Key": "tag-value", "Values": [stack]},
    ]
    found = account.every("secretsmanager", "list_secrets", "SecretList", Filters=filters)
    return [one["Name"] for one in found if _tags(one).get("aws:cloudformation:stack-name") == stack]


def log_groups(account: AwsAccount, stack: str) -> list[str]:
    """The names of log groups with the names that this stack's have."""
    return [
        one["logGroupName"]
        for prefix in LOG_PREFIXES
        for one in account.every("logs", "describe_log_groups", "logGroups", logGroupNamePrefix=prefix.format(stack))
    ]


def database_logs(account: AwsAccount, stack: str) -> list[str]:
    """The names of log groups into which databases of this stack wrote; RDS makes them, so they outlive the stack."""
    prefix = f"/aws/rds/instance/{stack}-database-".lower()
    return [
        one["logGroupName"]
        for one in account.every("logs", "describe_log_groups", "logGroups", logGroupNamePrefix=prefix)
    ]


def database_snapshots(account: AwsAccount, stack: str) -> Iterator[str]:
    """Final snapshots of databases: CloudFormation names them STACK-snapshot-LOGICAL ID-…, in lower case."""
    found = account.every("rds", "describe_db_snapshots", "DBSnapshots", SnapshotType="manual")
    for one in found:
        if one["DBSnapshotIdentifier"].startswith(f"{stack}-snapshot-".lower()):
            yield f"{one['DBSnapshotIdentifier']} ({one.get('AllocatedStorage', 0)} GiB)"


def database_backups(account: AwsAccount, stack: str) -> list[str]:
    """Automated backups of databases that are gone; they expire by themselves."""
    filters = [{"Name": "status", "Values": ["retained"]}]
    found = account.every(
        "rds", "describe_db_instance_automated_backups", "DBInstanceAutomatedBackups", Filters=filters
    )
    names = [one["DBInstanceIdentifier"] for one in found if one.get("Status") == "retained"]
    return [name for name in names if name.startswith(f"{stack}-database-".lower())]


def cache_snapshots(account: AwsAccount, stack: str) -> list[str]:
    """Final snapshots of caches, named as those of databases are."""
    found = account.every("elasticache", "describe_snapshots", "Snapshots", SnapshotSource="user")
    return [one["SnapshotName"] for one in found if one["SnapshotName"].startswith(f"{stack}-snapshot-".lower())]


def artifacts(account: AwsAccount, prefix: str) -> tuple[str, int, int] | None:
    """The address of this stack's artifacts, their number and bytes; None without any."""
    sam = find_stack(account, SAM_STACK)
    bucket = sam and sam.outputs.get("SourceBucket")
    if not bucket:
        return None
    found = account.every("s3", "list_objects_v2", "Contents", Bucket=bucket, Prefix=f"{prefix}/")
    return (f"s3://{bucket}/{prefix}/", len(found), sum(one["Size"] for one in found)) if found else None


def _tags(one: dict[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in one.get("Tags", ())}
