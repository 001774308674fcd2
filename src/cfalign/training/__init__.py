"""Training for users without a generator: an autoencoder, and a classifier with one head per attribute.

    report = train_autoencoder("photos/", out="models/autoencoder", options=AutoencoderTraining(size=64))
    report = train_classifier("photos/", "labels.csv", out="models/classifier")

Both write ``<kind>.safetensors`` and ``measurement.json``. A training that was stopped goes on where it was.

========================  ==================================================================================
``autoencoder``           ``train_autoencoder``
``classifier``            ``train_classifier``
``options``               their settings, and those of a second classifier
------------------------  ----------------------------------------------------------------------------------
``preparation``           images, labels and split, in a folder that belongs to one training
``splitting``             which images are trained on, and which are measured on
``decoded_images``        every image decoded once, as bytes
``output_folder``         the files in ``out``
``augmentation``          small random changes of training images
``objectives``            losses: the mean, or one that weighs groups or environments
``loop``                  steps, moving average, checkpoints, interruption
``principal_components``  the components of the autoencoder without training steps
``held_out``              PSNR and AUROC
``processes``             many small trainings side by side
``recipes``               the embedded models, and the material of the benchmarks
========================  ==================================================================================
"""

from cfalign._runs.progress import Progress
from cfalign.training.autoencoder import AutoencoderReport, train_autoencoder
from cfalign.training.classifier import ClassifierReport, train_classifier
from cfalign.training.held_out import TargetAuroc
from cfalign.training.options import AutoencoderTraining, ClassifierTraining, second

__all__ = [
    "AutoencoderReport",
    "AutoencoderTraining",
    "ClassifierReport",
    "ClassifierTraining",
    "Progress",
    "TargetAuroc",
    "second",
    "train_autoencoder",
    "train_classifier",
]
