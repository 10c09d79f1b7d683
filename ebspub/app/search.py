"""Which AMI do I launch: among what is published here, or in what a feed says."""

from __future__ import annotations

from ebspub.app.release.feeds import catalog
from ebspub.feeds import feed, from_store
from ebspub.feeds.catalog import Image, stream_of
from ebspub.feeds.find import Wanted, find
from ebspub.feeds.plain import row
from ebspub.store import Store, releases

__all__ = ["Image", "Wanted", "here", "row", "stream_of", "there", "unpublished"]


def here(store: Store, wanted: Wanted) -> tuple[Image, ...]:
    """Return the newest published AMI of each suite, build, arch and region that is wanted. Raises StoreError."""
    return find(catalog(store).images, wanted)


def unpublished(store: Store, wanted: Wanted) -> list[str]:
    """Return the builds that have registered AMIs of what is wanted which nobody may find yet, or any more."""
    with store.read() as conn:
        public = {each.job_id for each in releases.announced(conn)}
    hidden = [job for job in from_store.registered(store) if job.id not in public]
    return sorted({releases.release_id(job.spec) for job in hidden if wanted.takes(from_store.image(job))})


def there(url: str, wanted: Wanted, *, keyring: str | None, fingerprint: str | None) -> tuple[Image, ...]:
    """Return the same of what the feed at ``url`` names. Raises SourceError."""
    found = feed.images(url, keyring=keyring, fingerprint=fingerprint, region=wanted.region)
    return find(found, wanted)
