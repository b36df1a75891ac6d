"""Python kernels of this machine."""

from traitlets.config import Config

c: Config  # from the loader

# The history of notebooks is in the notebooks; its database in the home fails when that is full or on a network.
c.HistoryManager.hist_file = ":memory:"
