"""Give every job what proves its artefact: a checksum that a key of the keyring has signed, or that the file gives.

What is proved, and what is not:

- The bytes: the builder compares the artefact with the checksum; the checksum is in the configuration, or in a list or
  index that a key of the keyring has signed. A signature that is absent, bad, expired, or of a key that is expired,
  revoked or not in the keyring proves nothing, and the job is not planned.
- Which file of a build it is: the list names the file (suite and arch), the index the product, too.
- Which build: an index names the serial of every file. A list of checksums does not: a server could hand out an older
  build's list, signature and artefact in a newer build's folder. A list that was signed before the day of its serial is
  refused; that is all that can be told.
- Not that it is the newest: a server that keeps new builds back is not found out.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from ebspub.errors import ConfigError, SourceError
from ebspub.source import signature, streams, web
from ebspub.source.look import is_local, path_of
from ebspub.source.signature import Signed, is_clear_signed
from ebspub.source.sums import artefact_name, parse_sums
from ebspub.spec import JobSpec, Source

#: Get a small document by its URL; raises :class:`SourceError`. :class:`ebspub.source.look.Look` is one.
Fetch = Callable[[str], bytes]
#: A build's serial is a local date somewhere.
_DAY = timedelta(days=1)


def resolve(specs: Iterable[JobSpec], fetch: Fetch) -> tuple[JobSpec, ...]:
    """Return ``specs`` in their order, each with the SHA-256 of its artefact and what proved that.

    A checksum that is in the configuration is kept and costs no look. With ``verify = "none"`` a list of checksums
    still counts where there is one, and there need be none. Raises :class:`SourceError` where a document cannot be had,
    is not signed as it must be or does not list the artefact, and :class:`ConfigError` for a source with nothing to
    prove it by.
    """
    reader = Reader(fetch)
    return tuple(spec.model_copy(update={"source": reader.proved(spec)}) for spec in specs)


class Reader:
    """Reads what proves artefacts; every document is fetched, and its signature checked, once."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._checked: dict[tuple[str | None, ...], Signed | SourceError] = {}

    def proved(self, spec: JobSpec) -> Source:
        """Return the job's source with what proves it. See :func:`resolve`."""
        source = spec.source
        if is_local(source.url) and not path_of(source.url).is_file():
            raise SourceError(
                f"{spec.job_id}: there is no file {path_of(source.url)}", todo="Correct the source's url."
            )
        if source.sha256 is not None:
            return source
        if source.index is not None:
            return self._from_index(spec, source.index)
        if source.sums_url is not None:
            return self._from_sums(spec, source.sums_url)
        if source.verify == "none":
            return source
        raise ConfigError(
            f"{spec.job_id}: nothing proves {source.url}",
            todo='Give the source sha256sums and a keyring, a sha256, or verify = "none" in the configuration.',
        )

    def versions(self, source: Source) -> dict[str, streams.Item]:
        """Return the files of the source's product in its index, by serial."""
        assert source.index is not None

        def read(url: str) -> bytes:
            return self.read(source, url).content

        return streams.versions(source.index, source.product or "", source.item or "", read)

    def read(self, source: Source, url: str) -> Signed:
        """Return a document at ``url``, its signature checked where the source has a keyring."""
        if source.keyring is None:
            return Signed(self._fetch(url), "", 0)
        beside = source.signature_url if url in (source.sums_url, source.index) else _signature_of(url)
        key = (url, beside, source.keyring, source.fingerprint)
        if key not in self._checked:
            try:
                self._checked[key] = self._check(source, source.keyring, url, beside)
            except SourceError as error:
                self._checked[key] = error
        found = self._checked[key]
        if isinstance(found, SourceError):
            raise found
        return found

    def _check(self, source: Source, keyring: str, url: str, beside: str | None) -> Signed:
        content = self._fetch(url)
        signed_itself = beside is None or is_clear_signed(content)
        try:
            detached = None if signed_itself else self._fetch(beside or "")
        except web.AbsentError as error:
            raise signature.SignatureError(
                f"{url} is not signed: there is no {beside}",
                todo="Correct `signature` in the configuration, or wait until the build is published completely.",
            ) from error
        return signature.verify(content, detached, keyring=keyring, fingerprint=source.fingerprint, origin=url)

    def _from_sums(self, spec: JobSpec, url: str) -> Source:
        listed = self.read(spec.source, url)
        if spec.source.keyring is not None:
            _not_before_its_day(spec, url, listed.at)
        sha256 = _look_up(spec, parse_sums(listed.content, origin=url), url)
        return _with(spec.source, sha256=sha256, **_said(spec.source, listed))

    def _from_index(self, spec: JobSpec, index: str) -> Source:
        source = spec.source
        items = self.versions(source)
        if spec.serial not in items:
            near = difflib.get_close_matches(spec.serial, items, n=3)
            listed = f"; it has {', '.join(near)}" if near else ""
            raise SourceError(
                f"{spec.job_id}: {index} has no {source.item} of {source.product} {spec.serial}{listed}",
                todo="Correct the serial, product or item, or wait until the build is published.",
            )
        item = items[spec.serial]
        return _with(source, url=item.url, sha256=item.sha256, **_said(source, self.read(source, index)))


def _signature_of(url: str) -> str | None:
    return None if url.endswith(".sjson") else f"{url}.gpg"


def _said(source: Source, document: Signed) -> dict[str, str]:
    return {} if source.keyring is None else {"verify": "signature", "signer": document.signer}


def _with(source: Source, **values: str) -> Source:
    # Through the model, not model_copy: that would take any value.
    return Source.model_validate({**source.model_dump(), **values})


def _not_before_its_day(spec: JobSpec, url: str, signed_at: int) -> None:
    """Refuse a list of an older build, replayed in the folder of a newer one."""
    day = datetime.strptime(spec.serial[:8], "%Y%m%d").replace(tzinfo=UTC)
    if datetime.fromtimestamp(signed_at, UTC) < day - _DAY:
        when = time.strftime("%Y-%m-%d", time.gmtime(signed_at))
        raise signature.SignatureError(
            f"{spec.job_id}: {url} was signed on {when}, before the day of its serial: it is of an older build",
            todo="Nothing was touched. Ask who publishes it; a server may be handing out old files as new.",
        )


def _look_up(spec: JobSpec, sums: dict[str, str], url: str) -> str:
    name = artefact_name(spec.source.url)
    if name in sums:
        return sums[name]
    near = difflib.get_close_matches(name, sums, n=3)
    listed = f"; it lists {', '.join(map(repr, near))}" if near else ""
    raise SourceError(
        f"{spec.job_id}: {url} does not list {name!r}{listed}",
        todo="Correct the source's url or sha256sums in the configuration, or wait until the build is published.",
    )
