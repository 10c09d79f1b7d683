"""The catalogue of the store: its registered jobs, those of them that are published.

Which are is the caller's to say, for registering makes no AMI public.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from urllib.parse import unquote, urlsplit

from ebspub.config import regions
from ebspub.feeds.catalog import ROOT_STORE, Catalog, Download, Image
from ebspub.feeds.streams import public_name
from ebspub.states import Status
from ebspub.store import Job, Store, jobs


def registered(store: Store, builds: Iterable[str] = ()) -> list[Job]:
    """Return the jobs that ended with an AMI; of ``builds`` (suite, serial, suite-build[-serial]) if any are given."""
    with store.read() as conn:
        return jobs.find(conn, statuses=[Status.DONE], builds=tuple(builds))


def catalog(
    published: Iterable[Job],
    withdrawn: Iterable[Job] = (),
    *,
    labels: Mapping[str, str] = MappingProxyType({}),
    released: Mapping[str, float] = MappingProxyType({}),
    mirror: str = "",
) -> Catalog:
    """Return the catalogue of registered jobs: those that are published, and those that were and must not be any more.

    ``labels`` are those under which jobs are published, by job id, where they are others than the jobs' own;
    ``released`` is when, in seconds since the epoch; of withdrawn ones when they were withdrawn. ``mirror`` is the URL
    below which artefacts lie; what lies elsewhere on the web is told by the path of its URL, and files of this machine
    are not told at all.
    """
    bad = {job.id: job for job in withdrawn}
    images, downloads = {}, {}
    for job in (*published, *bad.values()):
        made = images[job.id] = image(job, label=labels.get(job.id, job.label), released=released.get(job.id))
        file = download(job, made, mirror)
        if file is not None:
            downloads[file.key] = file
    return Catalog.of(images.values(), downloads.values()).withdraw(images[job_id] for job_id in bad)


def image(job: Job, *, label: str = "", released: float | None = None) -> Image:
    """Return the AMI of a registered job. Raises ValueError for a job that has none."""
    if job.ami_id is None:
        raise ValueError(f"{job.id} is not registered")
    spec, registration = job.spec, job.spec.registration
    return Image(
        spec.suite,
        spec.build,
        label or job.label,
        spec.serial,
        spec.arch,
        spec.region,
        job.ami_id,
        ROOT_STORE[registration.volume_type],
        registration.virtualization,
        registration.kernel_id or "",
        registration.ramdisk_id or "",
        spec.version,
        job.snapshot_id or "",
        registration.name,
        registration.description,
        registration.boot_mode or "",
        registration.volume_type,
        regions.partition_of(spec.region),
        job.ended_at,
        released,
    )


def download(job: Job, made: Image, mirror: str = "") -> Download | None:
    """Return the artefact that a job began with; None for a file of this machine, which nobody else can have."""
    url = job.spec.source.url
    if not url.startswith(("http://", "https://")):
        return None
    root = f"{mirror.rstrip('/')}/"
    below = url.removeprefix(root) if mirror and url.startswith(root) else unquote(urlsplit(url).path).lstrip("/")
    return Download(made.suite, made.build, made.label, made.serial, made.arch, below, public_name(made))
