"""Catalogs: where released images are, for machines to be made of them. A folder on this computer, or a cloud's."""
