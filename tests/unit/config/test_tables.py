"""What cannot be in `[feeds]` and `[notify]` is refused when the file is read, without showing what may be a secret."""

from __future__ import annotations

import pytest

from ebspub.config import parse
from ebspub.errors import ConfigError

FEEDS = [
    ('folder = "feeds"', 'feeds.folder: found "feeds", expected an absolute path'),
    ('formats = ["quarry"]', 'did you mean "query"?'),
    ("formats = []", "feeds.formats: found an empty list"),
    ("columns = { lucid = 12 }", "feeds.columns.lucid: found the number 12"),
    ('url = "images.example.com"', "feeds.url: found"),
    ('url = "https://user:x@example.com"', "expected an http:// or https:// URL without user name"),
    ('mirror = "https://e.com/?sig=1"', "feeds.mirror: found"),
    ('origin = "a b"', "feeds.origin: found"),
    ('sign = { home = "/srv/gnupg" }', "feeds.sign.key: missing, expected fingerprint of the OpenPGP key"),
    ('sign = { key = "D2EB4462" }', "expected the whole fingerprint of a key"),
    ('sign = { key = "D2EB4462", passphrase = "hunter2/" }', "passphrase: found a value that is not shown here"),
    ('sync = { s3 = "images-example" }', "feeds.sync.s3: found"),
    ('sync = { s3 = "s3://Images" }', "feeds.sync.s3: found"),
    ('sync = { rsync = "--rsh=touch x:/" }', "feeds.sync.rsync: found"),
    ('sync = { rsync = "nowhere" }', "feeds.sync.rsync: found"),
    ('sync = { cache = "a\\nb" }', "feeds.sync.cache: found"),
    ('url = "https://example.com/#x"', "expected an http:// or https:// URL without user name, password, ? and #"),
    ('url = "https://example.com:99999/"', "feeds.url: found"),
]
NOTIFY = [
    ('command = "hook --now"', "notify.command"),
    ("command = []", "notify.command: found an empty list"),
    ('webhook = "https://user:pass@example.com/x"', "expected an http:// or https:// URL without user name"),
    ('webhook = "https://e.com/"\nwebhook_env = "X"', "expected one of webhook and webhook_env"),
    ('headers = { Authorization = "Bearer x" }', "expected the name of an environment variable"),
    ('sns = "images"', "expected the ARN of an SNS topic"),
    ('on = ["succeeded"]', "notify.on[0]"),
    ('webhook = "https://example.com/#x"', "notify.webhook: found"),
    ('webhook = "ftp://example.com/"', "notify.webhook: found"),
]


@pytest.mark.parametrize(
    ("table", "text", "wanted"),
    [*(("feeds", *each) for each in FEEDS), *(("notify", *each) for each in NOTIFY)],
)
def test_what_cannot_be_is_refused(table: str, text: str, wanted: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(f"[{table}]\n{text}")
    assert wanted in str(caught.value)
    assert "user:pass" not in str(caught.value)


def test_a_webhook_may_have_a_query_part() -> None:
    url = "https://example.com:8443/hook?channel=images"
    assert parse(f'[notify]\nwebhook = "{url}"').notify.webhook == url
