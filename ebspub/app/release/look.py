"""What EC2 and Parameter Store show of the AMIs of one region."""

from __future__ import annotations

from collections.abc import Sequence

from ebspub.app.release.wanted import Seen, Wanted
from ebspub.aws import images, parameters, sharing, snapshots
from ebspub.aws.clients import RegionClients
from ebspub.aws.images import FAILED
from ebspub.errors import JobError


class AbsentError(JobError):
    """An AMI, or its snapshot, does not exist, or is not visible yet. ``job_ids``: of which jobs."""

    def __init__(self, what: str, job_ids: frozenset[str]) -> None:
        self.job_ids = job_ids
        todo = "Publish another serial; `ebspub unpublish` takes this one out of the feeds."
        super().__init__(what, todo=todo)


def look(clients: RegionClients, wanted: Sequence[Wanted]) -> tuple[dict[str, Seen], frozenset[str]]:
    """Return what there is of each job, and the jobs whose AMI or snapshot EC2 does not show. Raises AwsError.

    Of the latter there may still be parameters, and a snapshot whose AMI somebody has deregistered: that stays shared.
    """
    paths = frozenset(path for each in wanted for path in each.names)
    held = parameters.read(clients.ssm, paths) if paths else {}
    seen: dict[str, Seen] = {}
    absent = set()
    for each in wanted:
        own = {path: held[path] for path in each.names if path in held}
        image = images.get(clients.reader, each.image)
        snapshot = snapshots.get(clients.reader, each.snapshot)
        usable = image is not None and image.state not in FAILED
        if not usable or snapshot is None:
            absent.add(each.job_id)
        seen[each.job_id] = Seen(
            launch=sharing.launch_permissions(clients.reader, each.image) if usable else frozenset(),
            volume=sharing.volume_permissions(clients.reader, each.snapshot) if snapshot else frozenset(),
            image_tags=image.tags if image is not None else {},
            snapshot_tags=snapshot.tags if snapshot is not None else {},
            parameters=own,
        )
    return seen, frozenset(absent)
