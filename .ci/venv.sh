#!/bin/sh
# Make .venv, or bring it up to date; do nothing where nothing changed.
#
#   .ci/venv.sh demo    ebspub and its embedded cloud
#   .ci/venv.sh dev     and everything that the tests and checks need
#
# What is installed is what constraints.txt pins. PYTHON chooses another Python for a new .venv.
set -eu

profile=$1
venv=.venv
stamp=$venv/.ebspub

alive() {
    "$venv/bin/python" -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# A copied or moved checkout has the same files, but its .venv would import the code of the old place.
key() {
    pwd
    "$venv/bin/python" --version
    cat pyproject.toml constraints.txt .ci/venv.sh | cksum
}

if alive; then
    have=$(cat "$stamp" 2>/dev/null || true)
    [ "$have" = "dev
$(key)" ] && exit 0
    [ "$have" = "$profile
$(key)" ] && exit 0
else
    python=$(.ci/system.sh which-python)
    if [ -z "$python" ]; then
        echo "No Python 3.11 or later; make system tells how to install one." >&2
        exit 1
    fi
    echo "Making $venv with $("$python" --version)" >&2
    "$python" -m venv --clear "$venv"
fi

case $profile in
    demo) extras=localcloud ;;
    dev) extras=localcloud,postgresql,dev ;;
    *)
        echo "usage: $0 demo|dev" >&2
        exit 2
        ;;
esac
rm -f "$stamp"
pip() {
    PIP_CONSTRAINT='' "$venv/bin/python" -m pip --quiet --disable-pip-version-check --no-input \
        install --constraint constraints.txt "$@"
}
echo "Installing ebspub[$extras] into $venv" >&2
# The build backend first: isolated builds do not heed the constraints.
pip hatchling
pip --no-build-isolation --editable ".[$extras]"
{
    echo "$profile"
    key
} >"$stamp"
