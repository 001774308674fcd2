"""Rectification: a target head composed with its shortcuts.

``rectification`` the whole · ``options`` its settings · ``workbench`` images split, gradients taken once, ψ of any β ·
``mixture`` walks of any β on those gradients · ``roots`` where ψ is zero · ``solvers`` secant and momentum ·
``rectified`` the result ·
``writing`` its files
"""
