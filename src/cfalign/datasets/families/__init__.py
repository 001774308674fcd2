"""Data sets that bring their own labels: one module per family of ``FAMILY:REST``.

``celeba``, ``waterbirds``, ``huggingface`` (``hf:``), ``xrv`` (torchxrayvision), ``webdataset`` (tar shards). Each has
one function that opens a data set as an image source with labels.
"""
