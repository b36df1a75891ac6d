"""Python kernels of this machine."""

c = get_config()  # noqa: F821

# The history of notebooks is in the notebooks; its database in the home fails when that is full or on a network.
c.HistoryManager.hist_file = ":memory:"
