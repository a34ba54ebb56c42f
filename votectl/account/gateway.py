"""API Gateway: what its account settings and its domain names let through."""

from collections.abc import Iterator

from votectl.account.look import Look
from votectl.findings import Finding


def throttle(look: Look) -> Iterator[Finding]:
    """Requests per second, which all APIs of the account and the broadcasts share."""
    rate = look.account.ask("apigateway", "get_account")["throttleSettings"]["rateLimit"]
    votes, messages = int(look["VotesPerSecond"]), int(look["BroadcastMessagesPerSecond"])
    found = f"API Gateway lets {rate:,.0f} requests per second through"
    if votes + messages > rate:
        yield Finding(
            "note",
            f"{found}, fewer than VotesPerSecond={votes} and BroadcastMessagesPerSecond={messages} together",
            "lower both, or ask for more: docs/guides/deploy.md, quotas",
        )
    else:
        yield Finding("ok", found)


def log_role(look: Look) -> Iterator[Finding]:
    """The account's role for logs, without which API Gateway refuses a stage of a WebSocket API that has them."""
    if look["WebSocketAccessLogs"] != "true" and look["ApiGatewayAccountRole"] != "true":
        return
    role = look.account.ask("apigateway", "get_account").get("cloudwatchRoleArn")
    makes = look["ApiGatewayAccountRole"] == "true"
    if makes and role and look.is_first:
        yield Finding(
            "note",
            f"ApiGatewayAccountRole=true replaces {role} for all APIs of the account in this region",
            "ApiGatewayAccountRole=false keeps it",
        )
    elif makes or role:
        yield Finding("ok", f"API Gateway writes logs as {role or 'a role that the stack makes'}")
    else:
        yield Finding(
            "problem",
            "WebSocketAccessLogs=true, and API Gateway has no role to write logs with in this region",
            "ApiGatewayAccountRole=true, or WebSocketAccessLogs=false",
        )


def domains(look: Look) -> Iterator[Finding]:
    """Names that the stack would make, and that are another's."""
    names = {look["DomainName"], look["LiveDomainName"]} - {""}
    if not look.is_first or not names:
        return
    found = look.account.ask("apigatewayv2", "get_domain_names")["Items"]
    taken = sorted(names & {one["DomainName"] for one in found})
    if taken:
        yield Finding(
            "problem",
            f"API Gateway has the domain name {' and '.join(taken)} already",
            "delete it there, or choose another: a name belongs to one stack",
        )
    else:
        yield Finding("ok", f"API Gateway has no domain name {' or '.join(sorted(names))} yet")
