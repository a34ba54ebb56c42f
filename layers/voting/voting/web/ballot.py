"""The ballot in a request's body: a form or a JSON object."""

import json
from collections.abc import Collection, Iterable
from typing import NamedTuple
from urllib.parse import parse_qsl

from voting.web.errors import HttpError
from voting.web.media_type import MediaType
from voting.web.request import BadBase64, Request
from voting.web.response import JSON

FORM = "application/x-www-form-urlencoded"
MOST_FIELDS = 50


class Ballot(NamedTuple):
    """A valid choice, and the token of the form if our page sent the ballot."""

    choice: str
    token: str | None


def read_ballot(request: Request, choices: Collection[str], most_bytes: int) -> Ballot:
    """Read the ballot of a POST. Fields other than `vote` and `token` are ignored.

    Raises:
        HttpError: 413 too_large, 415 unsupported_media_type, or 400 with one of the codes bad_base64, empty_body,
            invalid_text, invalid_json, not_an_object, invalid_form, duplicate_key, missing_vote, wrong_type,
            unknown_choice.
    """
    fields = _fields(request, _body(request, most_bytes))
    if "vote" not in fields:
        raise _bad("missing_vote", "The field `vote` is missing.")
    choice, token = fields["vote"], fields.get("token")
    if not isinstance(choice, str) or not isinstance(token, str | None):
        raise _bad("wrong_type", "The fields `vote` and `token` must be strings.")
    if choice not in choices:
        raise _bad("unknown_choice", f"That is not a choice here. Choose one of: {', '.join(choices)}.")
    return Ballot(choice, token)


def _body(request: Request, most_bytes: int) -> bytes:
    try:
        body = request.body
    except BadBase64 as error:
        raise _bad("bad_base64", "The body is not valid base64.") from error
    if len(body) > most_bytes:
        raise HttpError(413, "too_large", f"The body is over the limit of {most_bytes} bytes.")
    if not body:
        raise _bad("empty_body", "The body is empty.")
    return body


def _fields(request: Request, body: bytes) -> dict[str, object]:
    sent = MediaType.of(request.headers.get("content-type"))
    if sent is None or sent.kind not in {FORM, JSON}:
        raise _unsupported()
    text = _text(body, sent.codec)
    return _json_fields(text) if sent.kind == JSON else _form_fields(text, sent.codec)


def _text(body: bytes, codec: str) -> str:
    try:
        return body.decode(codec)
    except UnicodeError as error:
        raise _bad("invalid_text", f"The body is not valid {codec}.") from error


def _json_fields(text: str) -> dict[str, object]:
    try:
        document = _decode(text)
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits, and deep nesting
        raise _bad("invalid_json", "The body is not valid JSON.") from error
    if not isinstance(document, dict):
        raise _bad("not_an_object", 'The body must be a JSON object such as {"vote": "a"}.')
    return document


def _form_fields(text: str, codec: str) -> dict[str, object]:
    try:
        return _unique(
            parse_qsl(text, keep_blank_values=True, encoding=codec, errors="strict", max_num_fields=MOST_FIELDS)
        )
    except ValueError as error:  # bytes outside of the charset, or too many fields
        raise _bad("invalid_form", "The body is not a valid form.") from error


def _unique(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    """A dict of *pairs*. A name that occurs twice is refused: we cannot know which value was meant."""
    fields: dict[str, object] = {}
    for name, value in pairs:
        if name in fields:
            raise _bad("duplicate_key", "A field is given twice.")
        fields[name] = value
    return fields


_decode = json.JSONDecoder(object_pairs_hook=_unique).decode


def _bad(code: str, message: str) -> HttpError:
    return HttpError(400, code, message)


def _unsupported() -> HttpError:
    return HttpError(
        415,
        "unsupported_media_type",
        f"Send the vote as {JSON} or {FORM}, in a known charset such as UTF-8.",
        {"Accept-Post": f"{JSON}, {FORM}"},
    )
