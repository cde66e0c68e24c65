#!/bin/sh
# Bring the clone in $CSPIPE_HOME to $CSPIPE_REVISION, then become the given command.
# The image is the environment and the clone is the code: if the revision pins other packages, the image is too old or
# too new for it, and nothing starts.
set -eu
: "${CSPIPE_HOME:?CSPIPE_HOME: set it to the folder of the clone}"
: "${CSPIPE_REPOSITORY:?CSPIPE_REPOSITORY: set it to the address of the git repository}"
pins=${CSPIPE_PINS:-/opt/venv/pins.toml}
if [ -n "${CSPIPE_GIT_TOKEN:-}" ]; then
    # git asks this for a password; the token itself is written nowhere.
    export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=credential.helper
    export GIT_CONFIG_VALUE_0='!f() { echo username=token; echo "password=$CSPIPE_GIT_TOKEN"; }; f'
fi

if [ ! -e "$CSPIPE_HOME/.git" ]; then
    git clone --quiet --no-checkout "$CSPIPE_REPOSITORY" "$CSPIPE_HOME"
fi
cd "$CSPIPE_HOME"
git remote set-url origin "$CSPIPE_REPOSITORY"
git fetch --quiet --tags origin "${CSPIPE_REVISION:-main}"
git checkout --quiet --force --detach FETCH_HEAD
if ! sed -n '/^constraint-dependencies/,$p' pyproject.toml | cmp -s - "$pins"; then
    echo "revision $(git rev-parse --short HEAD) pins other packages than the image has: rebuild the image" >&2
    exit 1
fi
exec "$@"
