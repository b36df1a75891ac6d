"""Image definitions: strict TOML files, frozen models, and the modules of an image in order of their requirements."""

from hubsmith.definition.load import image_names, load_image, load_modules, load_tools
from hubsmith.definition.models import Image, Module, Tools
from hubsmith.definition.resolve import Definition, define

__all__ = [
    "Definition",
    "Image",
    "Module",
    "Tools",
    "define",
    "image_names",
    "load_image",
    "load_modules",
    "load_tools",
]
