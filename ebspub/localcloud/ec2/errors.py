"""Errors of EC2 that moto has no class for, or has with another code."""

from __future__ import annotations

from typing import NoReturn

from moto.ec2.exceptions import EC2ClientError


def refuse(code: str, message: str) -> NoReturn:
    """Answer the call with EC2's error ``code``."""
    raise EC2ClientError(code, message)
