"""Image building: the driver of the Nix backend, and the stages that run inside its sandbox."""
