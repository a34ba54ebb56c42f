"""Has boto3 race the addresses of a service, which urllib3 would try one after the other, a whole timeout each."""

import socket
from typing import Any

from botocore import awsrequest
from urllib3 import exceptions

from voting.happy_eyeballs import connect


class _Racing:
    """Replaces how a connection of urllib3 makes its socket; its timeout then covers the lookup of the name too."""

    first_family: int | None = None

    def _new_conn(self: Any) -> socket.socket:
        try:
            made = connect(self._dns_host, self.port, self.timeout, self.first_family)
        except socket.gaierror as error:
            raise exceptions.NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise exceptions.ConnectTimeoutError(self, str(error)) from error
        except OSError as error:
            raise exceptions.NewConnectionError(self, str(error)) from error
        made.settimeout(self.timeout)
        for option in self.socket_options or ():
            made.setsockopt(*option)
        return made


class _HttpConnection(_Racing, awsrequest.AWSHTTPConnection):  # type: ignore[misc] # as the stubs of both bases differ
    pass


class _HttpsConnection(_Racing, awsrequest.AWSHTTPSConnection):  # type: ignore[misc] # as above
    pass


def race_connections(*, prefers_ipv6: bool) -> None:
    """Have all boto3 clients of this process race addresses, IPv6 first or as the resolver sorts them.

    boto3 offers no setting for it, nor for the order. `ConnectionCls` is where urllib3 has a pool take another class.
    Sorting what `socket.getaddrinfo` returns would reach every library of the process, and wait as long if IPv6 is the
    one that is dead; a shorter timeout would give up on services that are merely slow.
    """
    _Racing.first_family = socket.AF_INET6 if prefers_ipv6 else None
    awsrequest.AWSHTTPConnectionPool.ConnectionCls = _HttpConnection
    awsrequest.AWSHTTPSConnectionPool.ConnectionCls = _HttpsConnection
