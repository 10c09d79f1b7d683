"""The five steps of the specification, one verb a file, and the removal of what a job leaves behind."""

from __future__ import annotations

from collections.abc import Mapping

from ebspub.engine.step import Step, Steps
from ebspub.states import State
from ebspub.steps.attach import Attach
from ebspub.steps.cancel import Cancel
from ebspub.steps.copy import Copy, Follow
from ebspub.steps.direct import NoBuilder, Seal, Upload
from ebspub.steps.launch import Launch
from ebspub.steps.passed import Pass
from ebspub.steps.populate import Populate
from ebspub.steps.register import Register
from ebspub.steps.snapshot import Snapshot

#: The step that leads out of each state.
STEPS: Steps = {
    State.PENDING: Launch(),
    State.LAUNCHED: Attach(),
    State.ATTACHED: Populate(),
    State.POPULATED: Snapshot(),
    State.SNAPSHOTTED: Register(),
}
#: Other ways through the states, by the word in a job's ``way``.
WAYS: Mapping[str, Steps] = {
    "direct": {
        State.PENDING: NoBuilder(),
        State.LAUNCHED: Pass("attach", {"volume": "none needed"}),
        State.ATTACHED: Upload(),
        State.POPULATED: Seal(),
        State.SNAPSHOTTED: Register(),
    },
    "copy": {
        State.PENDING: Follow(),
        State.LAUNCHED: Pass("attach", {"volume": "none needed"}),
        State.ATTACHED: Pass("populate", {"populated": "in the primary region"}),
        State.POPULATED: Copy(),
        State.SNAPSHOTTED: Register(),
    },
}
CANCEL: Step = Cancel()

__all__ = ["CANCEL", "STEPS", "WAYS"]
