"""Installs what the functions need in the database: tables, roles, and a login for each job."""

from collections.abc import Mapping

from voting.clients import Clients
from voting.database.credentials import fetch_database_user
from voting.database.logins import Login, Logins
from voting.database.roles import Role, grant
from voting.database.vote_table import VoteTable
from voting.queue.vote_queue import VoteQueue
from voting.settings import Settings


def install(clients: Clients, *, unless_handed_back: bool = False) -> Mapping[str, object]:
    """Install what is missing, and create or repair the logins; return what was done. It can be repeated at any time.

    *unless_handed_back* skips the tables while another worker drains, since its operator may have removed them on
    purpose.

    Raises:
        LoginTooPowerful: one of our logins has more rights than its job needs.
        psycopg.errors.InsufficientPrivilege: the login may not install, or may not create roles.
    """
    connection = clients.owner().postgres()
    connection.leave()
    logins = logins_of(clients.settings)
    is_ours = not unless_handed_back or VoteQueue(clients.redis()).backlog().handed_back_s is None
    installed = is_ours and VoteTable(connection).install()
    granted = is_ours and grant(connection)
    created = Logins(connection).ensure(logins) if logins else []
    return {"installed": installed, "granted": granted, "created": created, "logins": [login.name for login in logins]}


def logins_of(settings: Settings) -> list[Login]:
    """The logins of all functions; empty if they share the login of DATABASE_URL.

    Raises:
        SecretUnreadable: one of their secrets cannot be read.
    """
    if settings.database_owner_secret_arn is None or settings.database_secret_arn is None:
        return []
    return [
        # A run that finds the tally wrong repairs it, which takes the rights of an operator.
        _login(settings, settings.database_worker_secret_arn, Role.WORKER, Role.OPERATOR),
        _login(settings, settings.database_reader_secret_arn, Role.READER),
        _login(settings, settings.database_secret_arn, Role.OPERATOR),
    ]


def _login(settings: Settings, secret_arn: str, *roles: Role) -> Login:
    user = fetch_database_user(secret_arn, prefers_ipv6=settings.prefers_ipv6)
    return Login(user["user"], user["password"], roles)
