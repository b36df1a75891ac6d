"""Bring locked artifacts into the cache of the archives and into the Nix store."""
