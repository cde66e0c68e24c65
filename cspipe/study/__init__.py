"""Studies: a question, asked by many runs of the pipeline that differ in a few parameters each."""
