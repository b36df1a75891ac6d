"""The archives of packages: where they are on this machine, and how their artifacts come into the cache."""

#: Parallel transfers when nothing else is asked for.
JOBS = 8
