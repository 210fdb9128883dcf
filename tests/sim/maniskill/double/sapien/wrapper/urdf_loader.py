"""Takes the names of the compiled part when it is imported."""

from sapien.pysapien.render import RenderMaterial, RenderTexture2D

__all__ = ["RenderMaterial", "RenderTexture2D"]
