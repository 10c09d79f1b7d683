"""The WSGI application in front of moto: checks keys, logs calls, lets them fail, and keeps them one at a time."""

from __future__ import annotations

import hmac
import io
import json
import logging
import os
import re
import signal
import socket
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from ebspub.localcloud.calls import Call, CallLog, Incoming, note_answer, read
from ebspub.localcloud.faults import Effect, FaultBook
from ebspub.localcloud.world import World

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)
ADMIN_PATH = "/_localcloud/"
_CONSTANT_ID = re.compile(rb"(<[rR]equestI[dD]>)[^<]*(</[rR]equestI[dD]>)")
_REPLACED = {"content-length", "x-amzn-requestid"}


@dataclass
class Answer:
    """What is sent back."""

    status: str
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    @property
    def code(self) -> int:
        """The HTTP status code."""
        return int(self.status.split()[0])


class Gate:
    """The endpoint of the embedded cloud."""

    def __init__(self, world: World, backend: WSGIApplication, admin: WSGIApplication, access_key: str) -> None:
        self.calls = CallLog()
        self.faults = FaultBook()
        self._world = world
        self._backend = backend
        self._admin = admin
        self._access_key = access_key

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO", "").startswith(ADMIN_PATH):
            return self._admin(environ, start_response)
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        incoming = read(environ, body)
        call = self.calls.open(incoming)
        answer = self._answer(environ, incoming, call)
        if answer is None:
            call.outcome = "lost"
            return _drop(environ)
        headers = {name.lower(): value for name, value in answer.headers}
        note_answer(call, answer.code, headers, answer.body)
        start_response(answer.status, answer.headers)
        return [answer.body]

    def _answer(self, environ: WSGIEnvironment, incoming: Incoming, call: Call) -> Answer | None:
        """Return the answer, or None when there is to be none."""
        refused = self._refusal(incoming)
        if refused is not None:
            return refused
        effects = self.faults.strike(incoming)
        for effect in (e for e in effects if e.when == "before"):
            if effect.kind != "delay":
                return _inflict(effect, incoming)
            time.sleep(effect.seconds)
        answer = self._execute(environ, incoming)
        call.executed = True
        for effect in (e for e in effects if e.when == "after"):
            if effect.kind != "delay":
                return _inflict(effect, incoming)
            time.sleep(effect.seconds)
        return answer

    def _refusal(self, incoming: Incoming) -> Answer | None:
        # The key is no mere formality: who may start builders runs commands as the user of the cloud.
        if not hmac.compare_digest(incoming.access_key.encode(), self._access_key.encode()):
            message = "AWS was not able to validate the provided access credentials"
            return error_answer(incoming.service, 401, "AuthFailure", message)
        if incoming.service in {"ec2", "ssm", "ebs"} and incoming.region not in self._world.regions:
            message = f"The region {incoming.region} is not enabled for this account"
            return error_answer(incoming.service, 401, "AuthFailure", message)
        return None

    def _execute(self, environ: WSGIEnvironment, incoming: Incoming) -> Answer:
        try:
            if incoming.service == "ebs":
                return _of_ebs(environ, incoming)
            with self._world.lock:
                answer = _collect(self._backend, environ)
        except Exception:
            # What moto or a correction of ours raises unforeseen is an answer of EC2 like any other to whoever called:
            # an internal error, in the service's own protocol. The log has the traceback.
            log.exception("%s of %s in %s", incoming.action, incoming.service, incoming.region)
            return error_answer(incoming.service, 500, "InternalError", "The embedded cloud failed; see its log")
        else:
            return _with_request_id(answer)
        finally:
            self._world.finish_answering()


def _of_ebs(environ: WSGIEnvironment, incoming: Incoming) -> Answer:
    # After moto's own imports, which read the environment.
    from ebspub.localcloud import ebs
    from ebspub.localcloud.ec2.direct import EbsError

    try:
        status, headers, body = ebs.answer(environ, incoming)
    except EbsError as error:
        return error_answer("ebs", error.status, error.code, str(error))
    return _with_request_id(Answer(f"{status} OK", list(headers.items()), body))


def _collect(app: WSGIApplication, environ: WSGIEnvironment) -> Answer:
    """Call a WSGI application and return all of what it answers."""
    answer = Answer("500 nothing")

    def start(status: str, headers: list[tuple[str, str]], _exc_info: Any = None) -> Callable[[bytes], object]:
        answer.status, answer.headers = status, list(headers)
        return lambda _data: None

    chunks = app(environ, start)
    try:
        answer.body = b"".join(chunks)
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
    return answer


def _with_request_id(answer: Answer) -> Answer:
    """Give the answer an id of its own: moto's serializer writes the same one into every answer of EC2."""
    request_id = str(uuid.uuid4())
    if ("Content-Type", "application/octet-stream") not in answer.headers:
        answer.body = _CONSTANT_ID.sub(rb"\g<1>" + request_id.encode() + rb"\g<2>", answer.body)
    headers = [(name, value) for name, value in answer.headers if name.lower() not in _REPLACED]
    answer.headers = [*headers, ("Content-Length", str(len(answer.body))), ("x-amzn-requestid", request_id)]
    return answer


def _inflict(effect: Effect, incoming: Incoming) -> Answer | None:
    if effect.kind == "error":
        return error_answer(incoming.service, effect.status, effect.code, effect.message)
    if effect.kind == "kill":
        try:
            os.kill(effect.pid, signal.SIGKILL)
        except ProcessLookupError:
            log.warning("process %d, to be killed by a fault, had ended already", effect.pid)
    else:
        time.sleep(effect.seconds)
    return None


def _drop(environ: WSGIEnvironment) -> Iterable[bytes]:
    """Close the connection without a byte of an answer."""
    connection: socket.socket = environ["werkzeug.socket"]
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        log.debug("the client had gone already")
    raise ConnectionAbortedError("a fault drops the connection")


def error_answer(service: str, status: int, code: str, message: str) -> Answer:
    """Return an error in the protocol of the service."""
    request_id = str(uuid.uuid4())
    kind = "text/xml;charset=UTF-8"
    if service == "ec2":
        text = (
            f"<Response><Errors><Error><Code>{code}</Code><Message>{escape(message)}</Message></Error></Errors>"
            f"<RequestID>{request_id}</RequestID></Response>"
        )
    elif service == "s3":
        text = (
            f"<Error><Code>{code}</Code><Message>{escape(message)}</Message><RequestId>{request_id}</RequestId></Error>"
        )
    elif service in {"ssm", "ebs", "servicequotas"}:
        kind, text = "application/x-amz-json-1.1", json.dumps({"__type": code, "message": message, "Message": message})
    else:
        text = (
            f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
            f"<RequestId>{request_id}</RequestId></ErrorResponse>"
        )
    body = text.encode()
    headers = [("Content-Type", kind), ("Content-Length", str(len(body))), ("x-amzn-requestid", request_id)]
    if service == "ebs":
        headers.append(("x-amzn-errortype", code))
    return Answer(f"{status} error", headers, body)
