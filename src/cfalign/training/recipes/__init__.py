"""What cfalign itself trains: the embedded models, and the material of the benchmarks.

======================  ====================================================================================
``embedded``            the models that are shipped: ``python -m cfalign.training.recipes.embedded``
``planted_shortcuts``   classifiers of rendered faces with a planted shortcut, at doses
``robust_methods``      the same by methods of robust training; ``last_layer`` is one of them
``imperfect_references``  reference heads learnt from few, confounded faces
``confounded_subsets``  classifiers of labelled photographs, trained on confounded subsets of them
======================  ====================================================================================
"""
