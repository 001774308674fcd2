"""A few images that never change, for questions to models: are they the same as before, and what do they return?"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

DRAWN = 8


def probe_images(shape: tuple[int, int, int]) -> Tensor:
    """Images [8, *shape] in [0, 1] that are always the same: grey, a ramp, smooth colours, colours with noise, noise.

    >>> probe_images((3, 64, 64)).shape
    torch.Size([8, 3, 64, 64])
    """
    channels, height, width = shape
    rng = np.random.default_rng(64)
    coarse = torch.from_numpy(rng.random((5, channels, 4, 4))).float()
    smooth = functional.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=True)
    noise = torch.from_numpy(rng.random((3, channels, height, width))).float()
    grey = torch.full((1, channels, height, width), 0.4)
    ramp = torch.linspace(0, 1, width).expand(1, channels, height, width)
    return torch.cat([grey, ramp, smooth[:3], (smooth[3:] + noise[:2]) / 2, noise[2:]])
