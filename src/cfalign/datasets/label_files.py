"""Files and folders that hold labels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cfalign.datasets.aligned_labels import HowToRead, labels_of
from cfalign.datasets.attribute_columns import Positive, Uncertain
from cfalign.datasets.label_exports import read_export
from cfalign.datasets.label_tables import read_table
from cfalign.datasets.labels import Labels
from cfalign.datasets.yolo_labels import is_yolo


def read_labels(
    path: str | os.PathLike[str],
    *,
    ids: Sequence[str],
    positive: Positive | None = None,
    uncertain: Uncertain | None = None,
    id_column: str | None = None,
) -> Labels:
    """The labels of images from a table with a header, or from the export of an annotation tool.

    A table is CSV (comma, semicolon, tab or bar), TSV, Parquet or a JSON list of records. An export is COCO's JSON,
    FiftyOne's JSON, a YOLO folder or its file of names, or a folder of images for each class; of objects an attribute
    says whether the category is in the image, and images that the export does not list are missing.

    The image column is the one whose values fit ``ids`` best, whatever its header says: paths and file names count more
    than names without an extension, and these more than numbers. The module ``matching`` describes how cells fit.
    Attributes are the columns of 0/1, −1/1, −1/0/1, true/false, yes/no and the same in some other languages; blank, NA
    and NaN are missing and become NaN. All other columns are kept as text in ``extra``. What was decided and what was
    left out is in ``reading``.

    Args:
        path: the file or folder; what an export is, is known by its content.
        ids: of the images, as ``ImageSource.ids``; the labels come in this order.
        positive: the value, or values, that mean present in columns of other values, such as ``{"sex": "M"}``; every
            other value of such a column means absent.
        uncertain: what −1 beside 0 means, and words such as "uncertain": "ignore" (missing), "positive" or "negative";
            by default missing. In a table without 0 beside −1, −1 means absent, but beside blanks only by default.
        id_column: the column that names the images, where the values do not decide.

    Raises BadInput for a table that is missing or cannot be read, without header, image column or attribute, with two
    columns of one name in lower snake case, with columns that name images equally well and disagree, with a row that
    fits several images or two rows for one image that disagree, when no row matches, and for a column or value that is
    not there.

    >>> import pathlib, tempfile
    >>> table = pathlib.Path(tempfile.mkdtemp()) / "labels.csv"
    >>> _ = table.write_text("image,Smiling,Age,Sex\\na.png,1,31,F\\nb.png,-1,,M\\n")
    >>> labels = cfa.datasets.read_labels(table, ids=["a.png", "b.png", "c.png"], positive={"sex": "F"})
    >>> labels
    Labels(3 images: smiling, sex)
    >>> labels.column("smiling")
    array([ 1.,  0., nan])
    >>> labels.extra["age"]
    ('31', None, None)
    """
    file = Path(path).expanduser()
    how = HowToRead(positive, uncertain, id_column)
    exported = file.is_dir() or (file.is_file() and (file.suffix.lower() == ".json" or is_yolo(file)))
    return labels_of(read_export(file) if exported else read_table(file), ids=ids, file=file, how=how)
