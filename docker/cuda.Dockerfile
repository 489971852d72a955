# champ_jax for hosts with NVIDIA GPUs.
#
#     docker build -f docker/cuda.Dockerfile -t champ_jax:cuda .
#     docker run --rm --gpus=all --shm-size=8g -v "$PWD:/work" champ_jax:cuda animate
#
# The wheels bring CUDA; the host brings the driver and NVIDIA's container toolkit.
FROM python:3.12-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# The environment gets no pip of its own: the final image installs nothing.
RUN python -m venv --without-pip /opt/champ
WORKDIR /source
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE CHANGELOG.md CITATION.cff ./
COPY requirements/locked-3.12.txt requirements/
COPY champ_jax champ_jax
ARG EXTRAS=cuda,app,evaluate,fit,train
RUN python -m pip --python /opt/champ/bin/python install --constraint requirements/locked-3.12.txt ".[${EXTRAS}]"

FROM python:3.12-slim-bookworm
RUN python -m pip uninstall --yes pip \
    && useradd --uid 1000 --create-home champ \
    && install --directory --owner=champ --group=champ /work
COPY --from=build /opt/champ /opt/champ
ENV PATH=/opt/champ/bin:$PATH PYTHONUNBUFFERED=1 \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000:1000
WORKDIR /work
ENTRYPOINT ["champ"]
# The first command, no HEALTHCHECK: the doctor computes on the device, which a training should have for itself.
CMD ["doctor"]
