"""Classifiers of libraries, by ``FAMILY:NAME``: one module each, with ``load(name, trust=…)``.

``timm`` · ``torchvision`` · ``huggingface`` · ``xrv`` torchxrayvision · ``celeba`` the paper's ``branched_network`` ·
``checkpoint`` a file of weights · ``class_names`` as targets · ``library_call`` turns what a library raises into one
sentence
"""
