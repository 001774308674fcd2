"""Images and labels of the user, as tensors.

    images = open_images("photos/", size=64)                   # an image source: ids, shape, load, subset
    labels = read_labels("labels.csv", ids=images.ids)         # attributes [image, target], aligned with the images
    images, labels = open_dataset("celeba:CelebA/", size=64)   # a data set that brings its labels

======================  ====================================================================================
``opening``             ``open_images``, ``open_dataset``: from whatever the user has
``image_source``        ``ImageSource``, the interface, and what it delivers: ``Loaded``, ``Skipped``
``image_folder``        ``ImageFolder``: image files below a folder, decoded on demand; ``read_image``
``tensor_images``       ``TensorImages``: images that are in memory already
``torch_dataset``       ``DatasetImages``: a torch data set, read by index
``grouped_images``      ``grouped``: which images are of one person, patient or site
``label_files``         ``read_labels``: attributes from a file, aligned with image ids
``labels``              ``Labels``: attributes of images
``families``            data sets that bring labels: celeba, waterbirds, hf, xrv, webdataset
----------------------  ------------------------------------------------------------------------------------
``encoded_images``      ``EncodedImages``: encoded images in files, archives or memory, decoded on demand
``torch_loader``        loaders, and streams, read once; ``dataset_items``, ``item_labels``: what an item holds
``linked_folders``      folders below a folder, each once, and the other names by which links reach them
``inventory``           what was found, what of it is read, and what is left out for which reason
``inspection``          a look at some images as they are opened; ``grey_levels``: which value is white
``file_kinds``          which files are images, by their ending or their first bytes
``decoding``            one encoded image to pixels: modes, orientation, crop, resize, reasons for failures; ``dicom``
``label_tables``        CSV, TSV and Parquet as columns of text
``text_tables``         text as rows: encoding, separator, comments
``label_exports``       JSON of COCO and FiftyOne, folders of classes
``yolo_labels``         text files of objects
``label_columns``       classes by index as columns of 0/1
``attribute_columns``   which columns are attributes, and what their cells mean
``image_columns``       which column names the images
``aligned_labels``      a table becomes the labels of images
``label_reading``       ``LabelReading``: what was decided and left out, for the screen and for records
``matching``            which row of a table belongs to which image
======================  ====================================================================================
"""

from cfalign._results import Skipped
from cfalign.datasets.encoded_images import EncodedImages
from cfalign.datasets.grouped_images import GroupedImages, grouped
from cfalign.datasets.image_folder import ImageFolder, read_image
from cfalign.datasets.image_source import ImageSource, Loaded, in_batches
from cfalign.datasets.inventory import ImageWarning, Inventory, LeftOut
from cfalign.datasets.label_files import read_labels
from cfalign.datasets.label_reading import LabelReading
from cfalign.datasets.label_tables import target_name
from cfalign.datasets.labels import Labels, Leftover
from cfalign.datasets.opening import SPEC, Openable, open_dataset, open_images
from cfalign.datasets.tensor_images import TensorImages
from cfalign.datasets.torch_dataset import DatasetImages

__all__ = [
    "SPEC",
    "DatasetImages",
    "EncodedImages",
    "GroupedImages",
    "ImageFolder",
    "ImageSource",
    "ImageWarning",
    "Inventory",
    "LabelReading",
    "Labels",
    "LeftOut",
    "Leftover",
    "Loaded",
    "Openable",
    "Skipped",
    "TensorImages",
    "grouped",
    "in_batches",
    "open_dataset",
    "open_images",
    "read_image",
    "read_labels",
    "target_name",
]
