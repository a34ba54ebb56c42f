"""Why a store or AWS failed, in words for an operator that contain no address, no password and no row.

The message of a driver is never passed on unchanged: it may quote URLs, users and rows.
"""

import errno
import re
import socket
import ssl
import traceback
from collections.abc import Iterator
from typing import Any

REFUSED = "the connection was refused: is it running, and is this its port?"
TIMED_OUT = (
    "it did not answer in time: is it up, does the network (security groups, routes) let us through, and does it "
    "speak TLS if the URL says so?"
)
UNKNOWN_HOST = "its host name cannot be resolved"
BROKEN = "the connection broke"
LOGIN = "the user or the password is wrong"
CERTIFICATES = "for an authority of your own, name its file: ?ssl_ca_certs=/path in REDIS_URL, DATABASE_SSLROOTCERT"
NO_TLS = "it does not speak TLS on this port"

# The codes with which error replies of Redis begin, and what they mean.
REDIS_CODES = {
    "OOM": "its memory is full (OOM): raise maxmemory, or let the queue drain",
    "NOPERM": "the user's ACL forbids it (NOPERM)",
    "WRONGPASS": f"{LOGIN} (WRONGPASS)",
    "NOAUTH": "it requires a password (NOAUTH)",
    "READONLY": "it is a replica (READONLY): take the primary's address",
    "LOADING": "it is still loading its data (LOADING)",
    "MISCONF": "it cannot write its data to disk (MISCONF)",
    "NOREPLICAS": "too few of its replicas are reachable (NOREPLICAS, see min-replicas-to-write)",
    "MASTERDOWN": "it is a replica that has lost its primary (MASTERDOWN)",
    "CLUSTERDOWN": "its cluster is down (CLUSTERDOWN)",
    "CROSSSLOT": "it is a cluster, and the keys are in several slots (CROSSSLOT)",
    "MOVED": "it is a cluster, and the key is on another node (MOVED)",
    "TRYAGAIN": "it is a cluster that is moving the key (TRYAGAIN)",
    "BUSY": "it is busy with a script (BUSY)",
    "WRONGTYPE": "a key has another type than we expect (WRONGTYPE)",
    "EXECABORT": "it refused a part of a transaction (EXECABORT)",
}
REDIS_CLASSES = {  # classes of redis-py, for errors without a code
    "TimeoutError": TIMED_OUT,
    "ConnectionError": BROKEN,
    "AuthenticationError": LOGIN,
    "AuthenticationWrongNumberOfArgsError": LOGIN,
}
# An error inside a script is quoted in the error of the script; a command that it may not run has no code there.
IN_A_SCRIPT = re.compile(rf"-({'|'.join(REDIS_CODES)}) |ACL failure in script")
TOO_LONG_A_STRANGER = (
    "Protocol error: unauthenticated"  # means NOAUTH, for a command of more than ten parts; it has no code
)
COMMAND = re.compile(r"the '([a-z_|-]+)' command")

# By SQLSTATE. Others are reported by their number, and with the message of Postgres if their class quotes no value.
SQLSTATES = {
    "28P01": LOGIN,
    "28000": "it does not allow this login (pg_hba.conf)",
    "3D000": "there is no database of this name",
    "25006": "it is read-only: take the writer's address",
    "42P01": "a table is missing",
    "40P01": "it was in a deadlock",
    "53100": "its disk is full",
    "53200": "its memory is full",
    "53300": "all of its sessions are in use (max_connections)",
    "55P03": "a lock was not free in time",
    "57014": "a statement was canceled, by its timeout or by hand",
    "57P01": "it is being shut down",
    "57P02": "it crashed and is restarting",
    "57P03": "it is starting up or shutting down",
}
QUOTING_NOTHING = {
    "0A",
    "25",
    "40",
    "42",
    "53",
    "54",
    "55",
}  # classes whose messages name tables, columns and rights, but no values

# libpq gives no SQLSTATE for a failed login, only text.
LIBPQ: tuple[tuple[str, str], ...] = (
    ("password authentication failed", f"{LOGIN} (28P01)"),
    ("no password supplied", "it requires a password"),
    ("no such user", f"{LOGIN}: the pooler knows no such user"),
    ("no such database", "the pooler knows no database of this name"),
    ("unsupported startup parameter", "the pooler refuses an option of DATABASE_URL"),
    ("no encryption", "it allows this login over TLS only (pg_hba.conf): add ?sslmode=require to DATABASE_URL"),
    ("no pg_hba.conf entry", SQLSTATES["28000"]),
    (r'role ".*" does not exist', LOGIN),
    (r'database ".*" does not exist', f"{SQLSTATES['3D000']} (3D000)"),
    ("does not match host name", f"its TLS certificate is for another host name; {CERTIFICATES}"),
    ("certificate verify failed", f"its TLS certificate is not trusted; {CERTIFICATES}"),
    (
        "root certificate file .* does not exist",
        "the file with the certificate authorities (DATABASE_SSLROOTCERT) does not exist",
    ),
    ("does not support SSL", NO_TLS),
    ("SSL required|SSL connection is required", "it accepts TLS only: add ?sslmode=require to DATABASE_URL"),
    ("could not translate host name|failed to resolve host|Name or service not known", UNKNOWN_HOST),
    ("[Cc]onnection refused", REFUSED),
    ("timeout expired|[Tt]imed out|connection timeout", TIMED_OUT),
    ("too many clients|connection slots|too many connections|no more connections", SQLSTATES["53300"]),
    ("is starting up|is shutting down|not yet accepting", SQLSTATES["57P03"]),
    ("closed the connection|connection is lost|connection is closed|SYSCALL error|reset by peer", BROKEN),
)

OTHER_HOST = {62, 64}  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
NETWORK: dict[type[OSError], str] = {
    socket.gaierror: UNKNOWN_HOST,
    TimeoutError: TIMED_OUT,
    ConnectionRefusedError: REFUSED,
    FileNotFoundError: "a file or a socket that its address names does not exist",
}

# Messages of these classes describe code, not data.
OF_CODE = (AttributeError, NameError, ImportError, TypeError, NotImplementedError, AssertionError)


def explain(error: BaseException) -> str:
    """Return what *error* means; the name of its class if nothing more may be said."""
    for cause in _causes(error):
        if words := _words(cause):
            return words
    return type(error).__name__


def narrate(error: BaseException) -> str:
    """Return the traceback of *error* and its causes as Python prints it, with `explain` in place of their messages."""
    told = []
    for cause in reversed(list(_causes(error))):
        name, words = type(cause).__name__, _words(cause)
        frames = "".join(traceback.format_tb(cause.__traceback__))
        told.append(f"Traceback (most recent call last):\n{frames}{name}{f': {words}' if words else ''}")
    return "\n\nwhich led to\n\n".join(told)


def is_ours(error: BaseException) -> bool:
    """Whether *error* is an exception of this project, whose message we wrote."""
    return type(error).__module__.partition(".")[0] == "voting"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield *error*, then its causes."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        yield cause
        seen.add(id(cause))
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


def _words(error: BaseException) -> str:
    library = type(error).__module__.partition(".")[0]
    if is_ours(error) or isinstance(error, OF_CODE):
        return str(error)
    if library == "redis":
        return _of_redis(error)
    if library == "psycopg":
        return _of_postgres(error)
    if library in {"botocore", "boto3"}:
        return _of_aws(error)
    return _of_the_network(error) if isinstance(error, OSError) else ""


def _of_redis(error: BaseException) -> str:
    """Explain by the code of the error; a failed connection has an OSError as its cause, which says more."""
    code = _redis_code(error)
    if code == "NOPERM" and (command := COMMAND.search(str(error))):
        return f"the user's ACL forbids the command {command[1]} (NOPERM)"
    name = type(error).__name__
    if name == "ConnectionError" and code == "ERR":
        return "it has reached its limit of clients (maxclients)"
    if code not in REDIS_CODES and isinstance(error.__cause__ or error.__context__, OSError):
        return ""
    return REDIS_CODES.get(code) or REDIS_CLASSES.get(name, name)


def _redis_code(error: BaseException) -> str:
    text = str(error)
    if text.startswith(TOO_LONG_A_STRANGER):
        return "NOAUTH"
    if within := IN_A_SCRIPT.search(text):
        return within[1] or "NOPERM"
    return getattr(error, "status_code", None) or text.partition(" ")[0]


def _of_postgres(error: Any) -> str:
    state: str | None = getattr(error, "sqlstate", None)
    said: str | None = error.diag.message_primary if hasattr(error, "diag") else None
    if state is None:
        text = str(error)
        found = (sentence for pattern, sentence in LIBPQ if re.search(pattern, text))
        return next(found, TIMED_OUT if type(error).__name__ == "ConnectionTimeout" else "")
    if state in SQLSTATES:
        return f"{SQLSTATES[state]} ({state})"
    if said and state[:2] in QUOTING_NOTHING:
        return f"{said} ({state})"
    where = error.diag.constraint_name or error.diag.column_name or error.diag.table_name
    return f"{type(error).__name__} ({state}{f', {where}' if where else ''})"


def _of_aws(error: Any) -> str:
    answer = getattr(error, "response", None)
    code = answer.get("Error", {}).get("Code") if isinstance(answer, dict) else None
    return f"AWS refused {error.operation_name} ({code})" if code else f"AWS did not answer ({type(error).__name__})"


def _of_the_network(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in OTHER_HOST:  # its message names the host
            return f"its TLS certificate is for another host name; {CERTIFICATES}"
        return f"its TLS certificate is not trusted ({error.verify_message}); {CERTIFICATES}"
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "reason", None)  # a word of OpenSSL, if the error is its own
        is_plain = reason in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"}
        return NO_TLS if is_plain else f"TLS failed ({reason or 'the connection broke'})"
    for kind, words in NETWORK.items():
        if isinstance(error, kind):
            return words
    return f"{BROKEN} ({errno.errorcode.get(error.errno or 0, type(error).__name__)})"
