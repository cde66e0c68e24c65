#!/bin/sh
# Bring the clone in $CSPIPE_HOME to $CSPIPE_REVISION, then become the given command; may be started again at any time.
# The image is the environment and the clone is the code: if the revision pins other packages, the image is too old or
# too new for it, and nothing starts.
set -eu
: "${CSPIPE_HOME:?CSPIPE_HOME: set it to the folder of the clone}"
: "${CSPIPE_REPOSITORY:?CSPIPE_REPOSITORY: set it to the address of the git repository}"
revision=${CSPIPE_REVISION:-main}
pins=${CSPIPE_PINS:-/opt/venv/pins.toml}

# A volume's folder belongs to root and its group may write: git refuses it unless told.
git config --global safe.directory "$CSPIPE_HOME"
case ${CSPIPE_GIT_TOKEN:+$CSPIPE_REPOSITORY} in https://*)
    # git asks this for a password, and so does DVC, which reads files alone; for the repository's host and no other.
    # The token itself is written nowhere.
    host=${CSPIPE_REPOSITORY#https://}
    host=${host%%/*}
    git config --global "credential.https://${host##*@}.helper" \
        '!f() { echo username=token; echo "password=$CSPIPE_GIT_TOKEN"; }; f' ;;
esac

# Not `git clone`, which refuses a new disk's lost+found.
git init --quiet "$CSPIPE_HOME"
cd "$CSPIPE_HOME"
find .git -name '*.lock' -delete  # of a git that was killed; nobody works here yet
git config remote.origin.url "$CSPIPE_REPOSITORY"
git config remote.origin.fetch '+refs/heads/*:refs/remotes/origin/*'
git fetch --quiet --force --tags --end-of-options origin "$revision" || {
    echo "CSPIPE_REVISION=$revision cannot be fetched: name a branch, a tag or a full commit id of CSPIPE_REPOSITORY" >&2
    exit 1
}
git checkout --quiet --force --detach FETCH_HEAD
echo "revision $revision is commit $(git rev-parse HEAD)" >&2
if ! sed -n '/^constraint-dependencies/,$p' pyproject.toml | cmp -s - "$pins"; then
    echo "revision $(git rev-parse --short HEAD) pins other packages than the image has: rebuild the image" >&2
    exit 1
fi
exec "$@"
