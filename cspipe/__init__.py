"""cspipe: train diffusion models with compensation sampling (arXiv 2312.06285), reproducibly."""

import os

__version__ = "0.1.0"

# Threads that wait by spinning take the core from the thread they wait for. On two cores with other work, a training
# step on torch's two threads ran 13 times as fast when they slept at once; on idle cores it ran half as fast. A short
# spin before sleeping has both. NumPy's second thread never helped. This must be set before torch and NumPy are
# imported; the number of torch's threads is a parameter.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # matrix products on a GPU in a fixed order
