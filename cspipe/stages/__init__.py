"""The stages of dvc.yaml: each reads params.yaml and files, calls the library, writes files."""

import os

# Threads that wait by spinning take the core from the thread they wait for. With torch's two threads on two busy cores
# a training step took 13 times as long as with threads that sleep, and an eigenvalue problem on NumPy's two 6 times as
# long as on one. torch's number of threads is a parameter; this must be set before torch and NumPy are imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
