"""The user's images and labels, turned into tensors.

======================  ====================================================================================
``opening``             ``open_images``: whatever the user has (folder, tensor, array), as a source
``images``              ``ImageSource``, the interface; ``Loaded``, ``Skipped``: what it delivers
``folder``              ``ImageFolder``: image files below a folder, decoded on demand
``tensors``             ``TensorImages``: images that are in memory already
``labels``              ``read_labels``: a table of attributes, aligned with image ids, as ``Labels``
----------------------  ------------------------------------------------------------------------------------
``decoding``            one file to pixels: modes, orientation, crop, resize, and why a file cannot be read
``tables``              CSV, TSV and Parquet as columns of text
``matching``            which row of a table belongs to which image
======================  ====================================================================================
"""

from cfalign.datasets.folder import ImageFolder, read_image
from cfalign.datasets.images import ImageSource, Loaded, Skipped, in_batches
from cfalign.datasets.labels import Labels, Leftover, read_labels, target_name
from cfalign.datasets.opening import open_images
from cfalign.datasets.tensors import TensorImages

__all__ = [
    "ImageFolder",
    "ImageSource",
    "Labels",
    "Leftover",
    "Loaded",
    "Skipped",
    "TensorImages",
    "in_batches",
    "open_images",
    "read_image",
    "read_labels",
    "target_name",
]
