from __future__ import annotations
from pathlib import Path
import pytest
import json
def test_x(ebspub, every_state):
    for a in (["status"],["status","--json"],["show",every_state[4]],["show",every_state[1],"--json"], ["db","current"]):
        r=ebspub(*a); print(r.stdout, r.stderr, r.returncode)
    assert 0
def test_tty(environment, every_state, tmp_path):
    import subprocess,sys
    from conftest_pty import x
