"""attached -> populated: the source's content is on the volume, proved.

The work runs on the builder, detached from the connection; this step starts it, looks at its progress, and takes its
result. Starting is idempotent, so a publisher that died meanwhile re-attaches by looking.
"""

from __future__ import annotations

from functools import partial

from ebspub.aws.volumes import Volume
from ebspub.engine.outcome import Back, Done, Outcome, Wait
from ebspub.engine.step import World
from ebspub.errors import JobError, RemoteError, VerificationError
from ebspub.populate import FATAL_CODES, METHODS
from ebspub.populate.artefact import NAME, local_file
from ebspub.remote import detached
from ebspub.remote.report import Absent, Failed, Running
from ebspub.remote.shell import Shell
from ebspub.remote.upload import upload
from ebspub.states import Kind
from ebspub.steps import builder, shared
from ebspub.store import Job

#: A running builder that could not be reached so often, for so long (seconds), counts as lost. Both: while the
#: publisher's own network is away, time passes without a try, and the copy goes on without us.
_UNREACHABLE = (8, 300.0)
#: Seconds for which one look sends a file: longer than the pause between two looks, short beside a lease's renewal.
_SLICE = 8.0
#: The fact that counts those failures: how many in a row, since when; None after an answer.
_SILENT = "unreachable"


class Populate:
    """Fill the volume by the job's method."""

    name = "populate"
    kinds = frozenset({Kind.INSTANCE, Kind.VOLUME})

    def advance(self, job: Job, world: World) -> Outcome:
        """Start the work, or look at it."""
        seen = builder.living(job, world)
        if isinstance(seen, Wait | Back):
            return seen
        volume = _attached(job, world, seen.id)
        if isinstance(volume, Wait | Back):
            return volume
        method = METHODS[job.spec.method]
        device = builder.device(job)
        task = shared.in_turn(job, method.task(job.spec, volume_id=volume.id, device=device, attempt=job.attempt))
        try:
            shell = world.shells.get(job)
            report = detached.poll(shell, task)
            if isinstance(report, Absent):
                if (sending := _send(job, shell, task)) is not None:
                    return sending
                start = partial(detached.start, shell, task)
                world.effects.act(job, "StartPopulating", start, target=volume.id)
                return Wait("starting", progress={"phase": "start"})
        except RemoteError as error:
            return _unreachable(job, world, seen.id, error)
        if job.facts.get(_SILENT) is not None:
            world.effects.note(job, **{_SILENT: None})
        if isinstance(report, Running):
            progress = {"phase": report.phase, "done": report.done, "total": report.total}
            return Wait(report.phase, progress=progress)
        if isinstance(report, Failed):
            return _failed(job, report)
        facts = method.facts(report.facts)
        _compare(job, facts.sha256)
        return Done(facts.model_dump())

    def overdue(self, job: Job) -> Outcome:
        """A copy that takes too long is given up, builder and volume with it."""
        limit = job.step_limit(self.name)
        phase = (job.progress or {}).get("phase", "start")
        return Back("lose_builder", f"populating took longer than {limit:.0f} s (last phase: {phase})")


def _attached(job: Job, world: World, builder_id: str) -> Volume | Wait | Back:
    """Return the job's volume; or what to do because it is not visible (yet), or no longer on its builder."""
    volume = world.view.volume(job.volume_id)
    row = job.current(Kind.VOLUME)
    if volume is None and row is not None and (hidden := builder.hidden(job, world, row)) is not None:
        return hidden
    if volume is None or volume.attachment is None or volume.attachment[0] != builder_id:
        return Back("lose_volume", f"volume {job.volume_id} is no longer attached to builder {builder_id}")
    return volume


def _send(job: Job, shell: Shell, task: detached.Task) -> Wait | None:
    """Send more of an artefact that is a file of this machine; None once the builder has it, or downloads it itself."""
    file = local_file(job.spec)
    if file is None:
        return None
    try:
        sent = upload(shell, task, file, NAME, seconds=_SLICE)
    except OSError as error:
        raise JobError(
            f"{job.id}: the source {file} cannot be read: {error.strerror}",
            todo="The job goes on only on the machine that has the file. Put it back, then `ebspub resume`.",
            code="source",
        ) from error
    return (
        None if sent.complete else Wait("upload", progress={"phase": "upload", "done": sent.done, "total": sent.total})
    )


def _unreachable(job: Job, world: World, builder_id: str, error: RemoteError) -> Outcome:
    now = world.clock.now()
    count, since = job.facts.get(_SILENT) or (0, now)
    if count + 1 >= _UNREACHABLE[0] and now - since >= _UNREACHABLE[1]:
        return Back("lose_builder", f"builder {builder_id} runs but cannot be reached: {error.what}", "ssh")
    world.effects.note(job, **{_SILENT: (count + 1, since)})
    raise error


def _compare(job: Job, sha256: str) -> None:
    """Raise :class:`VerificationError` where the builder has used another artefact than the one that was proved.

    It compares by itself, too: this holds whatever runs there.
    """
    source = job.spec.source
    if source.sha256 is not None and sha256 != source.sha256.lower():
        raise VerificationError(
            f"{job.id}: the builder has used an artefact with the SHA-256 {sha256} instead of {source.sha256.lower()}",
            todo=f"Nothing of it is registered. Look at the source {source.url} and at the builder's image.",
            code="checksum",
        )


def _failed(job: Job, report: Failed) -> Outcome:
    what = f"{report.phase}: {report.message}"
    if report.code not in FATAL_CODES:
        return Back("lose_builder", f"populating failed in {what}", report.code)
    kind = VerificationError if report.code == "checksum" else JobError
    raise kind(f"{job.id}: populating failed in {what}", todo=_todo(job, report), code=report.code)


def _todo(job: Job, report: Failed) -> str:
    source = job.spec.source.url
    if report.code == "builder":
        return f"Take another builder image than {job.spec.builder.image}, or install there what it lacks."
    if report.code == "too-small":
        return "Raise volume.size, then `ebspub run`."
    if report.code == "disk-full":
        size = job.spec.builder.root_size
        now = f"now {size} GiB" if size else "now as large as the builder image's"
        return (
            f"Give builders a larger disk: builder.root_size ({now}), if {source} is what it should be; then "
            "`ebspub run`. Another attempt on such a builder cannot mend this."
        )
    return f"Look at the source {source}; another attempt cannot mend this."
