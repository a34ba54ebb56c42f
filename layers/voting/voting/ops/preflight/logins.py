"""Preflight: what other roles could do with our logins."""

from collections.abc import Iterator, Sequence

from voting.database.logins import Logins
from voting.ops.preflight.finding import Finding, ok, problem

TODO = (
    "RESET ROLE in a trigger gives them these rights: let the functions log in as members of voting_worker, "
    "voting_reader and voting_operator only, as the template does with DatabaseSecretArn."
)


def login_findings(logins: Logins, names: Sequence[str]) -> Iterator[Finding]:
    """Check the logins *names*; if the functions share one login, that of the session, which also installs."""
    ours = names or [logins.own()]
    powers = logins.powers(ours)
    for missing in sorted(set(ours) - powers.keys()):
        yield problem(f"there is no login {missing} yet", "Run `install`, which creates it.")
    strangers = logins.strangers([*ours, logins.own()])
    if not strangers:
        return
    code = f"code of {', '.join(strangers)} runs with each vote"
    for name in sorted(name for name, found in powers.items() if found):
        yield problem(f"{code} as our login {name}, which {', '.join(powers[name])}", TODO)
    if powers and not any(powers.values()):
        yield ok(f"{code}, as a login of ours that has no other rights")
