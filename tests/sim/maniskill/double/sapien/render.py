"""What the compiled part has."""

from sapien.pysapien.render import RenderMaterial, RenderSystem, RenderTexture2D

__all__ = ["RenderMaterial", "RenderSystem", "RenderTexture2D"]
