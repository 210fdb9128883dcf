"""Augmentation of training pictures, on the device where they are: random shifts and random crops.

Both take their random numbers as arguments, so that whoever draws them can draw them again.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def shift(images: Tensor, pixels: Tensor, reach: int) -> Tensor:
    """Move pictures (B, H, W, C) by `pixels` (B, 2) rows and columns, each within ±`reach`; what comes in is
    0.

    It is the crop of a picture padded with `reach` zeros (Laskin et al. 2020, arXiv 2004.14990).
    """
    rows, height, width, _ = images.shape
    padded = nn.functional.pad(images, (0, 0, reach, reach, reach, reach))
    start = reach - pixels.to(images.device)
    y = start[:, 0, None] + torch.arange(height, device=images.device)
    x = start[:, 1, None] + torch.arange(width, device=images.device)
    row = torch.arange(rows, device=images.device)
    return padded[row[:, None, None], y[:, :, None], x[:, None, :]]


def crop(images: Tensor, share: float, place: Tensor) -> Tensor:
    """Cut a window of `share` of both sides out of uint8 pictures (B, H, W, C), enlarged to (B, C, H, W).

    `place` (B, 2) in [0, 1] says where the window lies, from the upper left (0, 0) to the lower right.
    Returns float32 in [0, 1], bilinear between pixels.
    """
    rows, _, _, channels = images.shape
    floats = images.permute(0, 3, 1, 2).to(torch.float32) / 255.0
    centre = ((2.0 * place - 1.0) * (1.0 - share)).to(images.device, torch.float32)
    theta = torch.zeros(rows, 2, 3, device=images.device)
    theta[:, 0, 0] = theta[:, 1, 1] = share
    theta[:, 0, 2], theta[:, 1, 2] = centre[:, 1], centre[:, 0]
    grid = nn.functional.affine_grid(theta, [rows, channels, *images.shape[1:3]], align_corners=False)
    return nn.functional.grid_sample(floats, grid, padding_mode="border", align_corners=False)
