"""Materials and the renderer, which need Vulkan."""

import os


class RenderMaterial:
    """A look."""

    def __init__(self, *arguments, **more):
        if not os.environ.get("DOUBLE_VULKAN"):
            raise RuntimeError("failed to find a rendering device")


class RenderTexture2D(RenderMaterial):
    """A texture."""


class RenderSystem:
    """A renderer."""

    def __init__(self, device):
        if not os.environ.get("DOUBLE_VULKAN"):
            raise RuntimeError("vk::createInstanceUnique: ErrorIncompatibleDriver")
