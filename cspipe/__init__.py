"""cspipe: train diffusion models with compensation sampling (arXiv 2312.06285), reproducibly."""

import os

# Threads that wait by spinning take the core from the thread they wait for. The demo's training on torch's two threads
# and two cores, in images/s on idle cores and beside one busy process: 198 and 31 with a spin of 10,000 turns, 186 and
# 44 with 3,000, 184 and 59 with 1,000, 116 and 71 with 100; on one thread 134 and 122. The bits do not depend on it.
# NumPy's second thread never helped. This must be set before torch and NumPy are imported; the number of torch's
# threads changes the bits, so it is a parameter.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # matrix products on a GPU in a fixed order
