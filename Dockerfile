# The local Segmind with a small Llama: docker build --tag segmind-gateway . && docker run --publish 127.0.0.1:8765:8765 segmind-gateway
# Its options are those of langchain-segmind gateway, as in: docker run … segmind-gateway --engine echo --rpm 5
FROM python:3.14.7-slim-trixie@sha256:51dafde81dbdb6ebde285137a295cf18a47ca95234fe388a343719cb97305b3d AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 SEGMIND_GATEWAY_MODEL_DIR=/opt/gateway/model
RUN python -m venv /opt/gateway
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY langchain_segmind langchain_segmind
RUN /opt/gateway/bin/pip install '.[llama]' \
 && /opt/gateway/bin/python -m langchain_segmind.gateway --fetch-model

FROM python:3.14.7-slim-trixie@sha256:51dafde81dbdb6ebde285137a295cf18a47ca95234fe388a343719cb97305b3d
# What llama.cpp computes in parallel with; the slim image has it not. Debian keeps no old versions to pin.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/gateway /opt/gateway
# Beyond 127.0.0.1 of the container; which addresses of the host reach it is for --publish to say.
ENV SEGMIND_GATEWAY_HOST=0.0.0.0 SEGMIND_GATEWAY_PORT=8765 SEGMIND_GATEWAY_MODEL_DIR=/opt/gateway/model
USER 65534:65534
WORKDIR /opt/gateway
EXPOSE 8765
HEALTHCHECK --interval=10s --start-interval=1s --start-period=30s \
  CMD ["/opt/gateway/bin/python", "-c", "import os, socket; socket.create_connection(('127.0.0.1', int(os.environ['SEGMIND_GATEWAY_PORT'])), 2)"]
ENTRYPOINT ["/opt/gateway/bin/python", "-m", "langchain_segmind.gateway"]
