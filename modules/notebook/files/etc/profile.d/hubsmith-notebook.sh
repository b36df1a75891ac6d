# The hub's users work with the notebook environment also in terminals and over SSH.
if [ "$(id -u)" -ge 2000 ]; then
  PATH="$HOME/.local/bin:/opt/notebook/bin:$PATH"
fi
