"""Templates of names, descriptions and URLs: ``ubuntu-{suite}-{version}-{arch}-{build}-{serial}``.

They look like :meth:`str.format` and are not: a field is one of :data:`FIELDS` and nothing else. No attribute,
index, conversion or format specification is taken, so a template can reach no object and can ask for no
gigabyte of padding. ``{{`` and ``}}`` are literal braces.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from datetime import date
from string import Formatter

#: What a template may name.
FIELDS: tuple[str, ...] = ("suite", "build", "label", "serial", "version", "arch", "region", "date")

#: Plausible values: what a template gives with these is checked when the file is read.
SAMPLE: Mapping[str, str] = {
    "suite": "lucid",
    "build": "server",
    "label": "release",
    "serial": "20101020",
    "version": "10.04",
    "arch": "amd64",
    "region": "us-east-1",
    "date": "2010-10-20",
}

#: What the path of a parameter may name beside: how its AMI is registered.
PARAMETER_FIELDS: tuple[str, ...] = (*FIELDS, "virtualization", "volume_type")
PARAMETER_SAMPLE: Mapping[str, str] = {**SAMPLE, "virtualization": "hvm", "volume_type": "gp3"}

Piece = tuple[str, str | None]


class TemplateError(ValueError):
    """A template names something that it may not; the message is a phrase for the user."""


def _check_field(name: str, spec: str | None, conversion: str | None, allowed: Sequence[str]) -> None:
    if name not in allowed:
        near = difflib.get_close_matches(name, allowed, n=1)
        suggestion = f'; did you mean "{{{near[0]}}}"?' if near else ""
        known = " ".join(f"{{{field}}}" for field in allowed)
        raise TemplateError(f"a template of the fields {known}{suggestion}")
    if spec or conversion:
        raise TemplateError(f"{{{name}}} without a conversion (!) or a format (:)")


def pieces(template: str, allowed: Sequence[str] = FIELDS) -> tuple[Piece, ...]:
    """Split ``template`` into pairs of literal text and the field (one of ``allowed``) after it; None at the end.

    Raises :class:`TemplateError` for unknown fields, unbalanced braces, conversions and format specifications.
    """
    found: list[Piece] = []
    try:
        for literal, name, spec, conversion in Formatter().parse(template):
            if name is not None:
                _check_field(name, spec, conversion, allowed)
            found.append((literal, name))
    except TemplateError:
        raise
    except ValueError as error:
        raise TemplateError("balanced braces ({{ and }} stand for literal ones)") from error
    return tuple(found)


def fields(template: str, allowed: Sequence[str] = FIELDS) -> frozenset[str]:
    """Return the names of the fields that ``template`` uses."""
    return frozenset(name for _, name in pieces(template, allowed) if name is not None)


def expand(template: str, values: Mapping[str, str]) -> str:
    """Return ``template`` with its fields replaced by ``values`` (a value for every name that it may use)."""
    found = pieces(template, tuple(values))
    return "".join(literal + (values[name] if name is not None else "") for literal, name in found)


def serial_date(serial: str) -> date:
    """Return the day of a serial (YYYYMMDD or YYYYMMDD.N). Raises ValueError where there is no such day."""
    return date(int(serial[0:4]), int(serial[4:6]), int(serial[6:8]))
