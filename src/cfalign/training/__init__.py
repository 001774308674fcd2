"""Training for users without a generator: an autoencoder, and a classifier with one head per attribute.

    report = train_autoencoder("photos/", out="models/autoencoder", options=AutoencoderTraining(size=64))
    report = train_classifier("photos/", "labels.csv", out="models/classifier")

Both write ``<kind>.safetensors`` and ``measurement.json`` and go on where they were stopped.

======================  ====================================================================================
``autoencoder``         ``train_autoencoder``
``classifier``          ``train_classifier``
``options``             what can be chosen
----------------------  ------------------------------------------------------------------------------------
``material``            images, labels and split, in a folder known to be this training's
``splitting``           which images are trained on, which measured on
``pixels``              every image decoded once, as bytes
``folder``              the files in ``out``
``objectives``          what is minimised: the mean loss, or one that minds groups
``loop``                steps, moving average, checkpoints, interruption
``augmentation``        small random changes of training images
``confounded``          classifiers trained on confounded subsets of labelled images
``workers``             many small trainings side by side
``components``          principal components, which an autoencoder can consist of
``held_out``            PSNR, AUROC
``planted``             classifiers with a planted shortcut at doses: the material of benchmarks
``robust``              the same by methods of robust training; ``last_layer``: one of them
======================  ====================================================================================
"""

from cfalign._runs.progress import Progress
from cfalign.training.autoencoder import AutoencoderReport, train_autoencoder
from cfalign.training.classifier import ClassifierReport, train_classifier
from cfalign.training.held_out import TargetAuroc
from cfalign.training.options import AutoencoderTraining, ClassifierTraining

__all__ = [
    "AutoencoderReport",
    "AutoencoderTraining",
    "ClassifierReport",
    "ClassifierTraining",
    "Progress",
    "TargetAuroc",
    "train_autoencoder",
    "train_classifier",
]
