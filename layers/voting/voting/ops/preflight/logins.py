"""What a preflight finds about the logins: what others could do with them."""

from collections.abc import Iterator, Sequence

from voting.database.logins import Logins
from voting.ops.preflight.finding import Finding, ok, problem

TODO = (
    "RESET ROLE in a trigger gives them that: let the functions log in as roles that are members of voting_worker, "
    "voting_reader and voting_operator only, as the template does with DatabaseSecretArn."
)


def login_findings(logins: Logins, names: Sequence[str]) -> Iterator[Finding]:
    """Of the logins *names*, or of the session's own where the functions share it. It is the one that installs."""
    ours = names or [logins.own()]
    powers = logins.powers(ours)
    for missing in sorted(set(ours) - powers.keys()):
        yield problem(f"there is no login {missing} yet", "Run `install`, which makes it.")
    strangers = logins.strangers([*ours, logins.own()])
    if not strangers:
        return
    code = f"code of {', '.join(strangers)} runs with each vote"
    for name in sorted(name for name, found in powers.items() if found):
        yield problem(f"{code} as our login {name}, which {', '.join(powers[name])}", TODO)
    if powers and not any(powers.values()):
        yield ok(f"{code}, as a login of ours that may do nothing else")
