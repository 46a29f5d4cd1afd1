# docker build --tag celllm .
# docker run --rm --volume "$PWD/results:/opt/celllm/results" celllm                    the toy run
# docker run --rm --gpus all --volume "$PWD/results:/opt/celllm/results" --volume "$PWD/data:/opt/celllm/data" \
#   celllm snakemake --cores 8 all                                                      the full run
FROM python:3.11.13-slim-bookworm AS build
RUN apt-get update \
 && apt-get install --yes --no-install-recommends make gcc g++ \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/celllm
COPY pyproject.toml constraints.txt Makefile README.md LICENSE MANIFEST.in ./
COPY celllm celllm
RUN make setup TORCH=cuda
COPY . .

FROM python:3.11.13-slim-bookworm
RUN apt-get update \
 && apt-get install --yes --no-install-recommends make libgomp1 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 1000 celllm
COPY --from=build --chown=celllm:celllm /opt/celllm /opt/celllm
ENV PATH=/opt/celllm/.venv/bin:$PATH
USER celllm
WORKDIR /opt/celllm
CMD ["make", "toy"]
