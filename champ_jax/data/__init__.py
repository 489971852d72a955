"""Motion folders, dataset records and pipelines."""
