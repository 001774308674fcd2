"""Classifiers that are files or servers; docs/exported-models.md describes the formats and the contract.

``torchscript`` ``.pt``, ``.ts``, ``.pth`` · ``pt2`` programs of ``torch.export``, checked by ``vetting`` · ``onnx`` ·
``endpoint`` a server · ``description`` the JSON beside a file · ``exported_module`` file and description become a
classifier · ``input_shape`` what sizes a model takes
"""
