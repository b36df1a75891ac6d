"""Releases: signed folders with an image, its manifest and its test report.

To verify one, neither the tree nor this program is needed: `sha256sum` and `ssh-keygen` are enough.
"""
