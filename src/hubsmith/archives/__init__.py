"""Package archives: their configuration on this computer, and downloads into the cache."""

#: Default number of parallel transfers.
JOBS = 8
