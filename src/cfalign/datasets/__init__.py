"""The user's images and labels, turned into tensors.

======================  ====================================================================================
``opening``             ``open_images``: whatever the user has (folder, data set, tensor), as a source;
                        ``open_dataset``: the same with the labels that it brings
``images``              ``ImageSource``, the interface; ``Loaded``, ``Skipped``: what it delivers
``folder``              ``ImageFolder``: image files below a folder, decoded on demand
``tensors``             ``TensorImages``: images that are in memory already
``labels``              ``read_labels``: a table of attributes, aligned with image ids, as ``Labels``
``celeba``              ``celeba:FOLDER``, images and lists as the authors publish them
``waterbirds``          ``waterbirds:FOLDER``
``hub``                 ``hf:NAME_OR_FOLDER[:SPLIT]``, data sets of Hugging Face
``xrays``               ``xrv:CLASS:FOLDER``, data sets of torchxrayvision
``shards``              ``webdataset:PATTERN``, tar shards
----------------------  ------------------------------------------------------------------------------------
``encoded``             ``EncodedImages``: encoded images, wherever they lie, decoded on demand
``decoding``            one of them to pixels: modes, orientation, crop, resize, and why a file cannot be read
``tables``              CSV, TSV and Parquet as columns of text
``columns``             labels from the rows of a data set that brings its own
``matching``            which row of a table belongs to which image
======================  ====================================================================================
"""

from cfalign._results import Skipped
from cfalign.datasets.encoded_images import EncodedImages
from cfalign.datasets.image_folder import ImageFolder, read_image
from cfalign.datasets.image_source import ImageSource, Loaded, in_batches
from cfalign.datasets.labels import Labels, Leftover, read_labels, target_name
from cfalign.datasets.opening import SPEC, Openable, open_dataset, open_images
from cfalign.datasets.tensor_images import TensorImages

__all__ = [
    "SPEC",
    "EncodedImages",
    "ImageFolder",
    "ImageSource",
    "Labels",
    "Leftover",
    "Loaded",
    "Openable",
    "Skipped",
    "TensorImages",
    "in_batches",
    "open_dataset",
    "open_images",
    "read_image",
    "read_labels",
    "target_name",
]
