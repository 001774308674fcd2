"""The families of ``FAMILY:NAME``: one module each, whose ``load(name, trust=…)`` makes the autoencoder.

``taming`` and ``celeba`` (VQ-GANs, the paper's among them), ``diffusers``, ``taesd``, ``xrv``; ``quantised`` is what
the VQ models of ``taming`` and ``diffusers`` share.
"""
