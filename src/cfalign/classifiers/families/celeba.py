"""Family ``celeba``: the face attributes of the paper, ``celeba:branched-tiny`` or ``celeba:FILE.ckpt``."""

from __future__ import annotations

from cfalign._errors import BadInput
from cfalign._models.downloads import located
from cfalign._models.weights import load_into
from cfalign.classifiers.families.branched_network import ATTRIBUTES, SIZE, BranchedNetwork
from cfalign.classifiers.families.checkpoint import file_of, read
from cfalign.classifiers.preprocessing import Preprocessing
from cfalign.classifiers.wrapped_classifier import WrappedClassifier, wrap

NAME = "branched-tiny"


def load(name: str, *, trust: bool = False) -> WrappedClassifier:
    """Branched-Tiny of Vandenhende et al.: logits of CelebA's 40 attributes, 224 px, bilinear without antialiasing.

    ``name``: ``branched-tiny`` (the file in the user's cache folder) or a checkpoint. Raises BadInput when the file is
    missing, or when its keys or shapes do not fit.
    """
    path = located(NAME)[0] if name == NAME else file_of(name)
    if not path.is_file():
        raise BadInput(f"There is no file {name!r}; expected celeba:{NAME} or celeba:PATH of its checkpoint.")
    network = BranchedNetwork()
    checkpoint = read(name if name != NAME else path, trust=trust)
    load_into(network, checkpoint.state_of(list(network.state_dict())), path)
    prepare = Preprocessing(channels=3, resize=(SIZE, SIZE), antialias=False)  # the network normalises by itself
    stem = "branched_tiny" if name == NAME else path.stem
    classifier = wrap(network, ATTRIBUTES, link="sigmoid", prepare=prepare, name=stem)
    classifier.note(*checkpoint.remarks)
    return classifier
