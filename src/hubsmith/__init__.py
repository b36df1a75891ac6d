"""hubsmith: immutable, reproducible JupyterHub appliance images, proven in virtual machines."""
