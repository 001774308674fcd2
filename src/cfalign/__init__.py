"""cfalign: which features does an image classifier really use?"""

__version__ = "0.1.0"
