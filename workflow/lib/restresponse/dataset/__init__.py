"""Stage `dataset`: a BIDS folder becomes a table of scans, a table of participants and a table of labels.

Whatever can be wrong and shows without reading a voxel is found here, all of it at once, before any job runs.
"""

from restresponse.dataset.outcome import labels, write_labels
from restresponse.dataset.reading import Dataset, read_dataset
from restresponse.dataset.tables import digest_of_rows, write_tables

__all__ = ["Dataset", "digest_of_rows", "labels", "read_dataset", "write_labels", "write_tables"]
