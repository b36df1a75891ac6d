"""Releases: folders with an image, what proves it, and a signature; made of what a build and its tests put out.

Whoever has such a folder needs neither the tree nor this program to check it: `sha256sum` and `ssh-keygen` will do.
"""
