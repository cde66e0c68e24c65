"""The stages of dvc.yaml: each reads params.yaml and files, calls the library, writes files."""

import os

# NumPy's BLAS threads spin against torch's on shared cores (an eigenvalue problem took 18 s in place of 3); torch's own
# threads are a parameter. It must be said before NumPy is imported, so here.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
