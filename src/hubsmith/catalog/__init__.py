"""Catalogs of released images: a folder on this computer, or a cloud's Glance."""
