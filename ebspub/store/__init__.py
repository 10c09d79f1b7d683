"""The persisted state of every job: tables, transactions, leases, history."""

from ebspub.store.records import Effect, Event, Failure, Job, Lease, Resource, Seat
from ebspub.store.store import Store
from ebspub.store.tables import EffectStatus, Presence

__all__ = ["Effect", "EffectStatus", "Event", "Failure", "Job", "Lease", "Presence", "Resource", "Seat", "Store"]
