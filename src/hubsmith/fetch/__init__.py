"""Bring locked artifacts into the cache and the Nix store."""
