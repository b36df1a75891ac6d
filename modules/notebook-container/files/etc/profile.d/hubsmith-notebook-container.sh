# A login shell forgets the container's own PATH.
PATH="$HOME/.local/bin:/opt/notebook/bin:$PATH"
