"""A real OpenStack on this computer, in a name space of its own, to publish to and to launch from."""
