"""Studies: many runs of the pipeline that differ in a few parameters, to answer one question."""
