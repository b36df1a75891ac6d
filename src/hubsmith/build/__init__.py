"""Image builds: the driver of the Nix backend, and the stages that run in its sandbox."""
