"""Figures of results: ``svg`` as strings for the report, ``plots`` with matplotlib; one look for both (``style``)."""
