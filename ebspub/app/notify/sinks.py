"""Where a notification goes: a program's stdin, a web server, a topic of SNS. Each raises EbspubError, told in words.

What could be a secret (the value of a header, the path of a webhook, what a program says) is in no message.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import urllib3

from ebspub.app.notify import short
from ebspub.aws import copies
from ebspub.config.notify import NotifyTable
from ebspub.errors import EbspubError
from ebspub.source import web

#: Bytes of a message: SNS takes 256 KiB, and counts what is around it, too.
_SNS = 250_000
_PAUSE = 0.5

Document = Mapping[str, Any]
#: Tells one of those whom the configuration names. Raises EbspubError.
Sink = Callable[[NotifyTable, Document], None]


class NotifyError(EbspubError):
    """Somebody could not be told."""


def command(table: NotifyTable, document: Document) -> None:
    """Run the program with the document on its stdin. What it starts in its session ends with its time.

    What it says is kept nowhere: it may hold a secret, and a log is read by others, and for longer, than a terminal.
    Its exit status is told; a program whose words are wanted writes a log of its own.
    """
    assert table.command is not None
    name = table.command[0]
    try:
        process = subprocess.Popen(
            table.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise NotifyError(f"{name} cannot be started: {getattr(error, 'strerror', None) or error}") from error
    with process:
        try:
            # Its stderr is read to the end, for while somebody holds it not all has ended; and thrown away.
            process.communicate(_bytes(document), timeout=table.timeout)
        except subprocess.TimeoutExpired as error:
            # It may be gone itself, and what it has started holds its stderr.
            _kill(process)
            raise NotifyError(f"{name} did not end within {table.timeout:g} s, and was killed") from error
        except BaseException:
            _kill(process)
            raise
    if process.returncode != 0:
        raise NotifyError(
            f"{name} ended with exit status {process.returncode}; what it said is not kept: run it by hand to see that"
        )


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def webhook(table: NotifyTable, document: Document, env: Mapping[str, str] = os.environ) -> None:
    """Post the document; tried again while the server cannot be reached or is busy, and there is time."""
    url = table.webhook or _of(env, str(table.webhook_env))
    headers = {name: _of(env, variable) for name, variable in table.headers.items()}
    headers |= {**web.headers(), "Content-Type": "application/json"}
    host = urlsplit(url).hostname or "?"
    deadline, tries = time.monotonic() + table.timeout, 0
    while True:
        told = _post(url, _bytes(document), headers, max(0.1, deadline - time.monotonic()))
        if told is None:
            return
        why, final = told
        pause = _PAUSE * 2.0 ** min(tries, 5)
        if final or time.monotonic() + pause > deadline:
            raise NotifyError(f"the webhook at {host}: {why}")
        time.sleep(pause)
        tries += 1


def _post(url: str, body: bytes, headers: Mapping[str, str], seconds: float) -> tuple[str, bool] | None:
    """Post once. Return None where it was taken, else why not and whether that is final."""
    try:
        with web.manager(url) as manager:
            answer = manager.request(
                "POST",
                url,
                body=body,
                headers=headers,
                timeout=urllib3.Timeout(total=seconds),
                retries=False,
                redirect=False,
            )
    except urllib3.exceptions.HTTPError as error:
        # Its text has the path, which may be a secret.
        return type(error).__name__, isinstance(error, urllib3.exceptions.LocationValueError)
    if 200 <= answer.status < 300:
        return None
    return f"answered {answer.status}", answer.status not in web.TRY_AGAIN


def sns(table: NotifyTable, document: Document) -> None:
    """Publish the document to the topic; shortened (:mod:`short`), where all of it would be too much."""
    assert table.sns is not None
    text = short.text(document, _SNS)
    copies.publish(table.sns, f"ebspub: {document['event']}", text, table.timeout)


def _of(env: Mapping[str, str], variable: str) -> str:
    value = env.get(variable, "")
    if not value or not value.isprintable() or not value.isascii():
        raise NotifyError(f"the environment variable {variable} is not set, or is no printable ASCII text")
    return value


def _bytes(document: Document) -> bytes:
    return json.dumps(document).encode() + b"\n"
