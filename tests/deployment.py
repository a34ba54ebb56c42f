"""A deployment with a login for each job: RDS's master user, its secrets at moto, and the functions' own handlers."""

import json
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import boto3
import psycopg

from voting.clients import Clients
from voting.database.roles import Role
from voting.ops.provisioning import logins_of
from voting.settings import Settings

MASTER = "voting_test_master"
OWNER = "voting_test_mallory"  # owns `votes`, and nothing else
LOGINS = {job: f"voting_{job}_5a1c7e8e-0000-11f1-8000-0a1b2c3d4e5f" for job in ("worker", "reader", "operator")}


@contextmanager
def answering(answer: Callable[[str, bytes], tuple[int, bytes, Mapping[str, str]]]) -> Iterator[str]:
    """Serve *answer*, which gets path and body of each POST and PUT; yields the address."""

    class Connection(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, body, headers = answer(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_PUT = do_POST  # noqa: N815 - as http.server calls it

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Connection) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@dataclass
class Deployment:
    """What the template would have made."""

    settings: Settings  # of the tests: addresses of the stores
    superuser: psycopg.Connection
    secrets: Any  # the client of Secrets Manager
    arns: dict[str, str] = field(default_factory=dict)

    def keep(self, name: str, username: str, password: str) -> None:
        """Make or change the secret *name*."""
        text = json.dumps({"username": username, "password": password})
        if name in self.arns:
            self.secrets.put_secret_value(SecretId=self.arns[name], SecretString=text)
        else:
            one = f"{name}-{uuid.uuid4()}"
            self.arns[name] = self.secrets.create_secret(Name=one, SecretString=text)["ARN"]

    def env(self, job: str) -> dict[str, str]:
        """The environment of a function that does *job*: worker, reader or operator."""
        url = urlsplit(self.settings.database_url)
        env = {name: value for name, value in self.settings.env.items() if name != "DATABASE_URL"}
        env |= {"DATABASE_HOST": url.hostname or "", "DATABASE_PORT": str(url.port)}
        env["DATABASE_SECRET_ARN"] = self.arns[job]
        if job == "operator":
            for name in ("owner", "worker", "reader"):
                env[f"DATABASE_{name.upper()}_SECRET_ARN"] = self.arns[name]
        return env

    def clients(self, job: str) -> Clients:
        return Clients(Settings(self.env(job)), redis_retries=0, role=Role(f"voting_{job}"))

    def passwords(self) -> set[str]:
        logins = logins_of(Settings(self.env("operator")))
        return {login.password for login in logins} | {"of-the-master"}

    def powers_of(self, role: str) -> tuple[bool, ...]:
        """Of a plain role: all false."""
        query = (
            "SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls FROM pg_roles WHERE rolname = %s"
        )
        found: tuple[bool, ...] | None = self.superuser.execute(query, (role,)).fetchone()
        assert found is not None
        return found


def drop_all(superuser: psycopg.Connection) -> None:
    for role in (*LOGINS.values(), *Role, OWNER, MASTER):
        drop_role(superuser, role)


def drop_role(superuser: psycopg.Connection, role: str) -> None:
    if superuser.execute("SELECT to_regrole(quote_ident(%s))", (role,)).fetchone() != (None,):
        superuser.execute(f'DROP OWNED BY "{role}" CASCADE; DROP ROLE "{role}"')


@contextmanager
def deployed(settings: Settings, superuser: psycopg.Connection) -> Iterator[Deployment]:
    """A master user as RDS makes it, a role of another application that owns `votes`, and a secret for each login."""
    superuser.execute("DROP SCHEMA IF EXISTS voting CASCADE")
    drop_all(superuser)
    superuser.execute(f"CREATE ROLE {MASTER} LOGIN CREATEROLE CREATEDB PASSWORD 'of-the-master'")
    superuser.execute(f"CREATE ROLE {OWNER} LOGIN PASSWORD 'of-mallory'; GRANT {OWNER} TO {MASTER}")
    (database,) = superuser.execute("SELECT current_database()").fetchone() or ("",)
    superuser.execute(f"GRANT CREATE ON DATABASE {database} TO {MASTER}")
    superuser.execute(f"ALTER SCHEMA public OWNER TO {MASTER}; GRANT CREATE ON SCHEMA public TO PUBLIC")
    try:
        made = Deployment(settings, superuser, boto3.client("secretsmanager"))
        made.keep("owner", MASTER, "of-the-master")
        for job, login in LOGINS.items():
            made.keep(job, login, f"the-first-of-{job}")
        yield made
        made.secrets.close()
    finally:
        superuser.execute("DROP SCHEMA public CASCADE; DROP SCHEMA IF EXISTS voting CASCADE; CREATE SCHEMA public")
        drop_all(superuser)
