# pippin in an image, for a CPU or for CUDA.
#
#   docker build -t pippin .
#   docker build -t pippin:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .
#   docker run --rm --user "$(id -u)" -v "$PWD:/data" pippin sample --prompts "smiling cat" --seeds 0:4
#   docker run --rm --user "$(id -u)" --gpus all --shm-size 8g -v "$PWD:/data" \
#       pippin:cuda train RECIPE
#
# PyTorch's CUDA wheels bring CUDA's libraries, so a slim base suffices for both; the host has the
# driver. BASE also takes an image of NVIDIA's with Python 3.11 or newer, pinned by tag or digest.
ARG BASE=python:3.11.13-slim-bookworm

FROM ${BASE} AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN python3 -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM ${BASE}
# Index of torch and torchvision; empty = pip's default index.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# Extras of pyproject.toml, joined by commas.
ARG EXTRAS=text
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    VIRTUAL_ENV=/opt/pippin \
    PATH=/opt/pippin/bin:$PATH \
    HOME=/home/pippin \
    USER=pippin
# Unpinned: pip picks a pair that the index has; the wheel below refuses versions that are too old.
# hadolint ignore=DL3013
RUN python3 -m venv /opt/pippin \
    && pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch torchvision
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir "$(echo /wheels/*.whl)[${EXTRAS}]" \
    && useradd --no-create-home --home-dir /home/pippin --uid 10001 pippin \
    && install --directory --owner pippin --mode 1777 /home/pippin /data
# Any other id works too, such as that of a mounted folder's owner: docker run --user.
USER 10001
# Runs, samples and caches are written below /data.
WORKDIR /data
ENTRYPOINT ["pippin"]
CMD ["--help"]
