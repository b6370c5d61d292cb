"""Make answers of requests: arguments by GET or POST, and errors as plain text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from tensorboard import errors
from tensorboard.backend import http_util
from werkzeug import wrappers

from featviz_callback.tensorboard.plugin.places import TooLargeError

_MOST_BODY = 4 * 1024 * 1024
_T = TypeVar("_T")


class ContentTooLargeError(errors.PublicError):
    """A picture or a request is too large."""

    http_code = 413


class NotReadyError(errors.PublicError):
    """What is asked for is being made; ask again."""

    http_code = 503

    def __init__(self):
        super().__init__("It is being made, after others. Ask again in a second.")
        self.headers.append(("Retry-After", "1"))


def application(answer: Callable, methods: Sequence[str]) -> Callable:
    """Make a WSGI application of a function from a request to a response."""

    @wrappers.Request.application
    def respond(request):
        if request.method not in methods:
            text = f"Expected {' or '.join(methods)}."
            response = http_util.Respond(request, text, "text/plain", code=405)
            response.headers["Allow"] = ", ".join(methods)
            return response
        try:
            return answer(request)
        except errors.PublicError as error:
            response = http_util.Respond(request, str(error), "text/plain", code=error.http_code)
            response.headers.extend(error.headers)
            return response

    return respond


def found(read: Callable[[], _T]) -> _T:
    """Return what a function reads; answer by 413 or 404 if it cannot."""
    try:
        return read()
    except TooLargeError as error:
        raise ContentTooLargeError(str(error)) from error
    except KeyError as error:
        raise errors.NotFoundError("No such target or layer.") from error
    except ValueError as error:
        raise errors.NotFoundError(str(error)) from error


def arguments(request: wrappers.Request) -> Any:
    """Return the arguments of a request, from its address or from its JSON."""
    if request.method != "POST":
        return request.args
    if (request.content_length or 0) > _MOST_BODY:
        raise ContentTooLargeError(f"Expected at most {_MOST_BODY} bytes.")
    try:
        parsed = json.loads(request.get_data(cache=False))
    except (RecursionError, ValueError) as error:
        raise errors.InvalidArgumentError("Expected JSON.") from error
    if not isinstance(parsed, dict):
        raise errors.InvalidArgumentError("Expected a JSON object.")
    return parsed


def text(found_arguments: Any, argument: str) -> str:
    """Return an argument that is text."""
    value = found_arguments.get(argument)
    if not isinstance(value, str):
        raise errors.InvalidArgumentError(f"Expected an argument {argument}.")
    return value


def step(found_arguments: Any) -> int:
    """Return the argument `step`."""
    value = found_arguments.get("step")
    # A boolean is an int, but no step.
    return value if type(value) is int else integer(text(found_arguments, "step"), "step")


def integer(digits: str, argument: str) -> int:
    """Return a whole number."""
    if not re.fullmatch(r"-?[0-9]{1,18}", digits):
        raise errors.InvalidArgumentError(f"Expected {argument} to be a whole number.")
    return int(digits)
