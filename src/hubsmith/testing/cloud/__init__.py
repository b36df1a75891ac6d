"""A real OpenStack (Keystone and Glance) in private namespaces on this computer."""
