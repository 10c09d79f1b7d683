"""The document of a job: frozen, strict, and readable as JSON for as long as jobs live."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from ebspub.spec import EC2_ARCHITECTURE, Arch, Document, JobSpec, Limits, Registration
from ebspub.states import STEP_AFTER

#: As the first version wrote it, with nothing that has a default. It must stay readable for ever.
OLDEST: dict[str, Any] = {
    "suite": "lucid",
    "build": "server",
    "label": "release",
    "serial": "20101020",
    "version": "10.04",
    "arch": "amd64",
    "region": "us-east-1",
    "source": {"url": "http://127.0.0.1/lucid.tar.gz"},
    "builder": {"image": "ami-0000b0b0", "instance_types": ["m5.large"], "ssh_cidr": "192.0.2.1/32"},
    "volume": {"size": 8},
    "registration": {"name": "lucid-20101020", "architecture": "x86_64"},
}
PLACES: list[tuple[str, ...]] = [(), ("source",), ("builder",), ("volume",), ("registration",), ("limits",)]


def at(document: dict[str, Any], place: tuple[str, ...]) -> dict[str, Any]:
    """Return the part of a document that is at ``place``, made where it is missing."""
    for key in place:
        document = document.setdefault(key, {})
    return document


def oldest() -> dict[str, Any]:
    """Return a copy of the oldest document."""
    copied: dict[str, Any] = json.loads(json.dumps(OLDEST))
    return copied


def test_the_oldest_document_is_readable() -> None:
    spec = JobSpec.model_validate(oldest())
    assert (spec.method, spec.tags, spec.limits) == ("filesystem", {}, Limits())
    assert (spec.builder.ssh_user, spec.builder.dead_man, spec.volume.type) == ("ubuntu", 1800, "gp3")
    assert (spec.registration.root_device, spec.registration.virtualization) == ("/dev/sda1", "hvm")


@pytest.mark.parametrize("place", PLACES)
def test_an_unknown_key_is_refused(place: tuple[str, ...]) -> None:
    document = oldest()
    at(document, place)["surprise"] = 1
    with pytest.raises(ValidationError, match="surprise"):
        JobSpec.model_validate(document)


def test_nothing_is_changed_afterwards() -> None:
    spec = JobSpec.model_validate(oldest())
    for part in (spec, spec.source, spec.builder, spec.volume, spec.registration, spec.limits):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(part, next(iter(type(part).model_fields)), "other")


def test_every_document_is_frozen_and_strict() -> None:
    def kinds(kind: type[BaseModel]) -> set[type[BaseModel]]:
        return {kind}.union(*(kinds(below) for below in kind.__subclasses__()))

    for kind in kinds(Document):
        assert kind.model_config.get("frozen"), kind
        assert kind.model_config.get("extra") == "forbid", kind


LIMITS = st.fixed_dictionaries({"register": st.floats(1, 1e6), "attempts": st.integers(1, 9)})


@given(
    st.fixed_dictionaries({"limits": LIMITS}),
    st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=3),
)
def test_a_document_comes_back_from_json_as_it_was(limits: dict[str, Any], tags: dict[str, str]) -> None:
    spec = JobSpec.model_validate({**oldest(), **limits, "tags": tags})
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec
    assert JobSpec.model_validate(spec.model_dump(mode="json")) == spec
    assert "register" in spec.model_dump(mode="json")["limits"], "written under the name that it has in the file"


def test_the_id_of_a_job_names_it_and_leaves_the_label_out() -> None:
    spec = JobSpec.model_validate(oldest())
    assert spec.job_id == "lucid-server-20101020-amd64-us-east-1"
    assert JobSpec.model_validate({**oldest(), "label": "daily"}).job_id == spec.job_id
    for field, value in (("suite", "noble"), ("build", "minimal"), ("serial", "1"), ("arch", "arm64"), ("region", "x")):
        assert JobSpec.model_validate({**oldest(), field: value}).job_id != spec.job_id


def test_every_step_has_a_limit() -> None:
    spec = JobSpec.model_validate({**oldest(), "limits": {"register": 17, "attach": 5}})
    limits = {step: spec.step_limit(step) for step in STEP_AFTER.values()}
    assert limits == {"launch": 900.0, "attach": 5.0, "populate": 7200.0, "snapshot": 7200.0, "register": 17.0}


def test_every_arch_has_a_name_in_ec2() -> None:
    assert set(EC2_ARCHITECTURE) == set(get_args(Arch))
    assert set(EC2_ARCHITECTURE.values()) == set(get_args(Registration.model_fields["architecture"].annotation))


@pytest.mark.parametrize(
    ("place", "key", "value"),
    [
        (("volume",), "size", 0),
        (("volume",), "size", 16385),
        (("volume",), "type", "tape"),
        (("registration",), "name", "ab"),
        (("registration",), "name", "a" * 129),
        (("registration",), "description", "a" * 256),
        (("builder",), "instance_types", []),
        (("builder",), "ssh_port", 0),
        (("builder",), "dead_man", 59),
        (("limits",), "attempts", 0),
        (("limits",), "populate", 0),
        (("limits",), "listing_lag", -1),
        ((), "arch", "sparc"),
        ((), "method", "telepathy"),
    ],
)
def test_what_ec2_or_time_does_not_allow_is_refused(place: tuple[str, ...], key: str, value: Any) -> None:
    document = oldest()
    at(document, place)[key] = value
    with pytest.raises(ValidationError, match=key):
        JobSpec.model_validate(document)
