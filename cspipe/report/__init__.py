"""The report: one HTML page and one text table made from the files of the other stages."""
