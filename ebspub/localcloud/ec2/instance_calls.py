"""Calls about instances."""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult
from moto.core.types import Base64EncodedString

from ebspub.localcloud.ec2.base import NounResponse, now, outcome
from ebspub.localcloud.ec2.errors import refuse
from ebspub.localcloud.ec2.instances import CloudInstance


class InstanceResponse(NounResponse):
    """RunInstances and what follows it."""

    def run_instances(self) -> ActionResult:
        self.error_on_dryrun()
        # As many as can be had, and that is as many as are asked for.
        self.params["MinCount"] = self._get_param("MaxCount", 1)

        def make() -> str:
            reservation_id: str = outcome(super(InstanceResponse, self).run_instances()).id
            return reservation_id

        reservation = self.cloud.reservations[self.once("RunInstances", make)]
        instances: list[Any] = reservation.instances
        if self._get_param("ClientToken") and any(instance.gone for instance in instances):
            refuse("IdempotentInstanceTerminated", "The instances of this client token are terminated.")
        return ActionResult(reservation)

    def describe_instances(self) -> ActionResult:
        asked = self._get_param("InstanceIds", [])
        result: dict[str, Any] = outcome(super().describe_instances())
        for reservation in result["Reservations"]:
            visible = [i for i in reservation.instances if self._visible(i)]
            reservation.instances = self.seen(visible, (), "")
        found = {i.id for reservation in result["Reservations"] for i in reservation.instances}
        missing = {instance_id for instance_id in asked if not self._known(instance_id, found)}
        if missing:
            refuse("InvalidInstanceID.NotFound", f"The instance IDs '{', '.join(sorted(missing))}' do not exist")
        result["Reservations"] = [r for r in result["Reservations"] if r.instances]
        return ActionResult(result)

    def terminate_instances(self) -> ActionResult:
        self.error_on_dryrun()
        changes = self.cloud.terminate_instances(self._get_param("InstanceIds", []))
        result = [
            {"InstanceId": i.id, "CurrentState": {"Code": i.state_code, "Name": i.state}, "PreviousState": previous}
            for i, previous in changes
        ]
        return ActionResult({"TerminatingInstances": result})

    def get_console_output(self) -> ActionResult:
        instance_id = self._get_param("InstanceId")
        posted, text = self.cloud.console(instance_id)
        output = Base64EncodedString.from_encoded_bytes(text)
        return ActionResult({"InstanceId": instance_id, "Timestamp": posted, "Output": output})

    def _known(self, instance_id: str, found: set[str]) -> bool:
        """Tell whether the instance exists for the caller; filters may keep it out of ``found`` all the same."""
        if instance_id in found:
            return True
        instance = self.cloud.get_instance(instance_id)
        return self._visible(instance) and self.cloud.world.listed(instance.born)

    def _visible(self, instance: CloudInstance) -> bool:
        """Terminated instances are listed for a while only."""
        return instance.ended is None or now() - instance.ended < self.cloud.world.settings.terminated_visible
