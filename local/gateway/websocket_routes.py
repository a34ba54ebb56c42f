"""The routes of a WebSocket API: invokes the functions behind $connect, $disconnect and those that messages select."""

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from local.awslambda.invocation import Functions, PayloadTooLarge, Throttled, UnknownFunction
from local.gateway.event import MalformedAnswer
from local.gateway.integration import Integration, IntegrationTimeout
from local.gateway.route_selection import RouteSelection
from local.gateway.websocket_connection import Ending, Identity
from local.gateway.websocket_event import (
    Origin,
    connect_event,
    disconnect_event,
    message_event,
    response_of,
    subprotocol_of,
)
from local.template.resources import WebSocketStage

Fault = dict[str, str]  # what a client is told, as JSON

logger = logging.getLogger("local.websocket")

_INTERNAL_ERROR = "Internal server error"
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class HandshakeRefused(Exception):
    """$connect did not let the client in."""

    def __init__(self, status: int, fault: Fault) -> None:
        super().__init__(fault["message"])
        self.status = status
        self.fault = fault


class _IntegrationFailed(Exception):
    """The function gave no usable answer; *status* refuses a handshake."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class WebSocketRoutes:
    """The functions of one stage, by route."""

    def __init__(self, stage: WebSocketStage, functions: Functions, timeout_s: float) -> None:
        """Invoke *functions* as *stage* says, and wait up to *timeout_s* for each answer.

        Raises:
            ValueError: see `RouteSelection`.
        """
        self._functions = stage.routes
        self._selection = RouteSelection(stage.route_selection, stage.routes)
        self._integration = Integration(functions, timeout_s)

    async def connect(
        self, origin: Origin, identity: Identity, raw_headers: Sequence[tuple[bytes, bytes]], query: str, port: int
    ) -> str | None:
        """Ask $connect, if there is such a route, for *identity*; return the subprotocol that it chose, if any.

        Raises:
            HandshakeRefused: it did not answer with a 2xx.
        """
        function = self._functions.get("$connect")
        if function is None:
            return None
        event = connect_event(origin, identity, raw_headers, query, port)
        try:
            answer = await self._ask(function, event)
        except _IntegrationFailed as error:
            raise HandshakeRefused(error.status, _fault(str(error), event)) from error
        status = answer["statusCode"]
        if not 200 <= status <= 299:
            raise HandshakeRefused(status, _fault(_PHRASES.get(status, "Refused"), event))
        return subprotocol_of(answer)

    async def message(self, origin: Origin, identity: Identity, message: str | bytes) -> Fault | None:
        """Hand *message* to the function of its route; return what the client is told of a failure.

        It hears of nothing else, since no route has a response.
        """
        route_key = self._selection.route_key(message)
        event = message_event(origin, identity, route_key, message)
        function = self._functions.get(route_key)
        if function is None:
            return _fault("Forbidden", event)
        try:
            await self._ask(function, event)
        except _IntegrationFailed as error:
            return _fault(str(error), event)
        return None

    async def disconnect(self, origin: Origin, identity: Identity, ending: Ending) -> None:
        """Tell $disconnect, if there is such a route, how the connection of *identity* ended."""
        function = self._functions.get("$disconnect")
        if function is None:
            return
        try:
            await self._ask(function, disconnect_event(origin, identity, ending))
        except _IntegrationFailed as error:
            logger.warning("$disconnect of %s was not handled: %s", identity.connection_id, error)

    async def _ask(self, function: str, event: dict[str, Any]) -> dict[str, Any]:
        """Invoke *function*; return its response, which has a statusCode.

        Raises:
            _IntegrationFailed: it gave no such response.
        """
        try:
            answer = await self._integration.ask(function, event)
        except IntegrationTimeout as error:
            raise _IntegrationFailed(504, "Endpoint request timed out") from error
        except (Throttled, UnknownFunction, PayloadTooLarge) as error:  # Lambda did not accept the invocation
            logger.warning("%s was not invoked: %s", function, type(error).__name__)
            raise _IntegrationFailed(500, _INTERNAL_ERROR) from error
        if answer.error:
            raise _IntegrationFailed(502, _INTERNAL_ERROR)
        try:
            return response_of(answer.payload)
        except MalformedAnswer as error:
            logger.warning("%s returned a malformed response: %s", function, error)
            raise _IntegrationFailed(502, _INTERNAL_ERROR) from error


def _fault(message: str, event: dict[str, Any]) -> Fault:
    context = event["requestContext"]
    return {"message": message, "connectionId": context["connectionId"], "requestId": context["requestId"]}
