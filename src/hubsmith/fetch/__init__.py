"""Bring locked artifacts into the content-addressed cache and into the Nix store."""
