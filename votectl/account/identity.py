"""Who asks, and where."""

from collections.abc import Iterator

from votectl.aws_account import AwsAccount, Unanswered
from votectl.aws_client import NO_ANSWER
from votectl.findings import Finding

# The credentials of an account work in the first region of each partition, whatever the account has enabled.
FIRST_REGION = {"aws": "us-east-1", "aws-cn": "cn-north-1", "aws-us-gov": "us-gov-west-1"}


def identity(account: AwsAccount) -> Finding:
    """Whose credentials these are. AWS refuses nobody this question whose credentials are valid.

    Raises:
        Unanswered: there are no credentials, they are invalid or expired, or there is no network.
    """
    found = account.ask("sts", "get_caller_identity", region=_first_region(account))
    if "Arn" not in found:
        raise Unanswered(NO_ANSWER)
    return Finding("ok", f"credentials of {found['Arn']} in account {found['Account']}")


def region(account: AwsAccount) -> Iterator[Finding]:
    """Whether the account may use the region.

    Raises:
        Unanswered: EC2 did not answer.
    """
    found = account.ask("ec2", "describe_regions", region=_first_region(account), AllRegions=True)["Regions"]
    status = {one["RegionName"]: one["OptInStatus"] for one in found}.get(account.region)
    if status is None:
        yield Finding("problem", f"AWS has no region {account.region}", "correct `region` in samconfig.toml")
    elif status == "not-opted-in":
        enable = f"aws account enable-region --region-name {account.region}"
        yield Finding(
            "problem", f"the region {account.region} is not enabled in this account", f"`{enable}`, then wait minutes"
        )
    else:
        yield Finding("ok", f"region {account.region}")


def _first_region(account: AwsAccount) -> str:
    return FIRST_REGION.get(account.partition, account.region)
